// The flags that a component is started with, changed where they are kept: in the manifest of a static pod, in the environment of a unit, or
// in a drop-in of ours beside it.
import { HostFailedError } from '../../errors.ts'
import { type HostSession, type Planned, wouldWrite } from '../../playbook/model.ts'
import type { FoundComponent, UnitRun } from '../layout/host-layout.ts'
import { editManifest, type FlagEditor } from './static-pods.ts'
import { editUnit, type FlagChange } from './unit-text.ts'

/** What is written where we change the command of a unit. It comes after the drop-ins of others. */
const dropInOf = (unit: string) => `/etc/systemd/system/${unit}.d/zz-rekey.conf`

/** The files that a change of flags may touch: what puts them back as they were puts the flags back. */
export function flagFilesOf({ runs }: FoundComponent): string[] {
  if (runs.kind === 'static-pod') return [runs.manifest]
  return runs.kind === 'unit' ? [...runs.environmentFiles, dropInOf(runs.unit)] : []
}

/** Changes the flags that a component starts with next time where `edit` asks for something else than there is. Returns whether it did. */
export async function updateFlags(
  session: HostSession,
  found: FoundComponent,
  edit: (flags: FlagEditor) => void,
): Promise<boolean> {
  const { $, files } = session
  const writes = await changedFiles(session, found, edit)
  for (const { path, text } of writes) {
    // As it was, or as its like are: 0600 for a manifest, as kubeadm has it.
    const { stdout } = await $({
      quiet: true,
      nothrow: true,
    })`mkdir -p "$(dirname ${path})"; stat -c '%a %u:%g' ${path} 2>/dev/null`
    const [bits, owner] = stdout.trim().split(' ')
    const mode = found.runs.kind === 'static-pod' ? 0o600 : bits ? Number.parseInt(bits, 8) : 0o644
    await files.write(path, text, { mode, ...(found.runs.kind === 'unit' && owner && { owner }) })
  }
  if (writes.length > 0) await reread(session, found)
  return writes.length > 0
}

/** Has systemd read the files of a unit again, after they were changed or put back. The next start goes by them. */
export async function reread({ $ }: HostSession, { runs }: FoundComponent): Promise<void> {
  if (runs.kind !== 'unit') return
  await $`rmdir ${`${dropInOf(runs.unit).replace(/\/[^/]*$/, '')}`} 2>/dev/null; systemctl daemon-reload`
}

/** For a step's plan: the files as `updateFlags` would write them. */
export async function plannedFlags(
  session: HostSession,
  found: FoundComponent,
  edit: (flags: FlagEditor) => void,
): Promise<Planned[]> {
  const writes = await changedFiles(session, found, edit)
  const planned: Planned[] = writes.map(({ path, text }) => wouldWrite(path, text))
  return found.runs.kind === 'unit' && writes.length > 0 ? [...planned, 'systemctl daemon-reload'] : planned
}

async function changedFiles(
  session: HostSession,
  { component, runs }: FoundComponent,
  edit: (flags: FlagEditor) => void,
): Promise<{ path: string; text: string }[]> {
  const { files, host } = session
  if (runs.kind === 'static-pod') {
    const text = await files.readText(runs.manifest)
    const where = `${host.name}:${runs.manifest}`
    const edited = editManifest(text, where, edit)
    // The very same text where it asks for nothing else.
    return edited === editManifest(text, where, () => {}) ? [] : [{ path: runs.manifest, text: edited }]
  }
  if (runs.kind === 'unit') return changedFilesOfUnit(session, runs, edit)
  throw new HostFailedError(`${component} on ${host.name} is a pod that the API made: its flags are not on this host`, {
    code: 'component.no-flags',
    host: host.name,
  })
}

async function changedFilesOfUnit(
  { $, files, host }: HostSession,
  { unit, environmentFiles }: UnitRun,
  edit: (flags: FlagEditor) => void,
): Promise<{ path: string; text: string }[]> {
  const changes: FlagChange[] = []
  edit({
    flag: (name, value) => changes.push({ name, values: value === undefined ? [] : [value].flat() }),
    // It sees all files of its host.
    mountReadOnly: () => {},
  })
  const environment = new Map<string, string>()
  for (const path of environmentFiles) if (await files.exists(path)) environment.set(path, await files.readText(path))
  const { stdout } = await $({ quiet: true })`systemctl cat ${unit}`
  const edited = editUnit({ definition: stdout, environment }, `${host.name}:${unit}`, changes)
  return [
    ...[...edited.environment].map(([path, text]) => ({ path, text })),
    ...(edited.dropIn === undefined ? [] : [{ path: dropInOf(unit), text: edited.dropIn }]),
  ]
}
