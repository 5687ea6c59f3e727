// The files of a component, by what they are to it.
import type { FileOptions } from '../../connection/files.ts'
import type { Secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { FileRole, FoundComponent, NamedFile } from '../layout/host-layout.ts'

/** The file that a component names for a role: the last one, which is the one that counts. `undefined` where it names none. */
export function fileOf({ files }: FoundComponent, role: FileRole): NamedFile | undefined {
  return files.findLast(file => file.role === role)
}

/** Reads the file that a component has for a role. Throws `HostFailedError` where it names none, or it can't be read. */
export function readComponentFile(session: HostSession, found: FoundComponent, role: FileRole): Promise<string> {
  return session.files.readText(named(session, found, role).real)
}

/**
 * Writes the file that a component has for a role, where links lead to it, with its mode and owner as they are. Whoever else names the file
 * has it changed, too. Throws `HostFailedError` where the component names none, or it is not there.
 */
export async function writeComponentFile(
  session: HostSession,
  found: FoundComponent,
  role: FileRole,
  content: string | Secret,
): Promise<void> {
  await rewriteFile(session, named(session, found, role).real, content)
}

/** Writes a file that is there, with its mode and owner as they are: no link. */
export async function rewriteFile(
  { $, files }: HostSession,
  path: string,
  content: string | Secret,
  options: Pick<FileOptions, 'secret'> = {},
): Promise<void> {
  const [bits = '', owner] = (await $({ quiet: true })`stat -c '%a %u:%g' ${path}`).stdout.trim().split(' ')
  await files.write(path, content, { mode: Number.parseInt(bits, 8), owner, ...options })
}

function named({ host }: HostSession, found: FoundComponent, role: FileRole): NamedFile {
  const file = fileOf(found, role)
  if (file) return file
  throw new HostFailedError(`${found.component} on ${host.name} names no file for ${role}`, {
    code: 'component.no-file',
    host: host.name,
  })
}
