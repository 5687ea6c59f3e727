// Files of this machine that lookups read: where Ansible looks for them, and what of them is read.
import { readFileSync, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { expandHome } from '../../../operator.ts'
import { TemplateError } from '../../python/python-values.ts'
import { isEncrypted } from '../../vault/vault.ts'
import { type Machine, mostText } from '../jinja-call.ts'
import type { Frame } from '../jinja-frame.ts'

/** A path, which may be one of the user's own files, from the folder of the playbook. */
export function inFolder(path: string, { folder, environment }: Machine): string {
  const given = expandHome(path, environment)
  return isAbsolute(given) ? given : join(folder, given)
}

/** Where a file is: below the folder of its kind, or beside it. Throws `TemplateError` where it is not. */
export function findFile(name: string, kind: string, machine: Machine): string {
  const places = /^[~/]/.test(name) || name.split('/')[0] === kind ? [name] : [`${kind}/${name}`, name]
  const found = places.map(place => inFolder(place, machine)).find(place => statSync(place, { throwIfNoEntry: false }))
  if (found === undefined) throw new TemplateError(`there is no file "${name}" in ${machine.folder}`)
  return found
}

/** The text of a file, opened where ansible-vault encrypted it. Throws `TemplateError` for what is none, or too long. */
export function readText(path: string, { run }: Frame): string {
  let bytes: Buffer
  try {
    const { size, isFile } = { size: statSync(path).size, isFile: statSync(path).isFile() }
    if (!isFile) throw new TemplateError(`${path} is no file`)
    if (size > mostText) throw new TemplateError(`${path} has more than 8 MiB`)
    bytes = readFileSync(path)
  } catch (error) {
    if (error instanceof TemplateError) throw error
    throw new TemplateError(`${path} can't be read: ${(error as NodeJS.ErrnoException).code}`)
  }
  const content = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes)
  if (!bytes.equals(Buffer.from(content))) throw new TemplateError(`${path} is no text in UTF-8`)
  run.limits.text(content.length)
  return isEncrypted(content) ? run.scope.machine.decrypt(content, path) : content
}
