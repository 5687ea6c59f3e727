// What of a host is kept before anything changes, and where something is staged: what its components name, and the folders of that.
import { splitPath } from '../../connection/safe-folder.ts'
import { inRealFolders } from '../../operations/backup.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { HostLayout } from '../layout/host-layout.ts'
import * as kubeadm from '../layout/kubeadm/index.ts'

/** Folders that hold more than a cluster's keys and configuration: of what lies there, the files that are named count, and no others. */
const ofEverybody =
  /^(\/|\/etc|\/etc\/(default|sysconfig|ssl|ssl\/certs|ssl\/private|pki|systemd\/.*|systemd)|\/(usr\/)?(local\/)?lib(\/.*)?|\/usr(\/.*)?|\/var|\/var\/lib|\/var\/lib\/(kubelet|etcd)|\/root(\/.*)?|\/home(\/.*)?|\/opt|\/opt\/[^/]*|\/srv|\/mnt|\/run(\/.*)?|\/tmp)$/

/** What a backup of a host holds: whatever its components name, or that lies beside it, and `more`. */
export function backedUp(layout: HostLayout, more: readonly string[] = []): string[] {
  const started = Object.values(layout.components).flatMap(({ runs }) => {
    if (runs.kind === 'static-pod') return [runs.manifest]
    return runs.kind === 'unit' ? [...runs.definition, ...runs.environmentFiles] : []
  })
  const kept = [...named(layout), ...more].map(path => {
    const { folder } = splitPath(path)
    return holdsMore(layout, folder) ? path : folder
  })
  return outermost([...kubeadm.backedUp, ...kept, ...started])
}

/** The folders in which anything is staged beside what it replaces. */
export function stagingFolders(layout: HostLayout, more: readonly string[] = []): string[] {
  const folders = [...named(layout), ...more].map(path => splitPath(path).folder)
  return outermost([...kubeadm.stagingFolders, ...folders])
}

/** What the size of the backups comes from; an etcd that was found has its database in it. */
export function measuredForBackups(layout: HostLayout, more: readonly string[] = []): string[] {
  const data = layout.components.etcd?.flags['data-dir']?.at(-1)
  return [...backedUp(layout, more), ...(data === undefined ? [] : [`${data}/member/snap/db`])]
}

/** The paths as an archive takes them: one that had a link and what lies behind it could not be unpacked. */
export async function withoutLinks(session: HostSession, paths: readonly string[]): Promise<string[]> {
  return outermost(await inRealFolders(session, paths))
}

/** Every file that a component names, as it names it and where it lies. */
function named({ components }: HostLayout): string[] {
  return Object.values(components).flatMap(({ files }) =>
    files.flatMap(({ path, real, key }) => [path, real, ...(key ? [key.path, key.real] : [])]),
  )
}

function holdsMore({ components }: HostLayout, folder: string): boolean {
  const data = components.etcd?.flags['data-dir']?.at(-1)
  return ofEverybody.test(folder) || (data !== undefined && (data === folder || data.startsWith(`${folder}/`)))
}

/** Paths, each once, but for those within another of them. */
function outermost(paths: readonly string[]): string[] {
  const all = new Set(paths)
  const isWithin = (path: string): boolean => {
    const { folder } = splitPath(path)
    return folder !== path && folder !== '' && folder !== '.' && (all.has(folder) || isWithin(folder))
  }
  return [...all].filter(path => !isWithin(path))
}
