// Static pods: the control plane that kubelets run from a folder of manifests.
import { dump, load } from 'js-yaml'
import { HostFailedError } from '../../errors.ts'
import { waitFor } from '../../operations/wait.ts'
import { type HostSession, type PlannedWrite, wouldWrite } from '../../playbook/model.ts'
import { manifestDirectory } from '../layout/kubeadm/index.ts'

export type StaticPod = 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler'

interface Manifest {
  metadata: { name: string; annotations?: Record<string, string> }
  spec: {
    containers: {
      name: string
      command: string[]
      volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[]
    }[]
    volumes?: { name: string; hostPath?: { path: string; type?: string } }[]
  }
}

/** A manifest's text with what `edit` changes in it. Throws `HostFailedError` where it is not a pod of one container. */
export function editManifest(text: string, where: string, edit: (manifest: ManifestEditor) => void): string {
  const manifest = load(text) as Manifest | undefined
  const container = manifest?.spec?.containers?.[0]
  if (!manifest?.metadata || !container?.command || manifest.spec.containers.length !== 1) {
    throw new HostFailedError(`${where} is not the manifest of a pod with one container and a command`, {
      code: 'static-pod.manifest',
    })
  }
  edit({
    flag: (name, value) => {
      if (value !== undefined && container.command.includes(`--${name}=${value}`)) return
      const rest = container.command.filter(word => !word.startsWith(`--${name}=`))
      container.command = value === undefined ? rest : [...rest, `--${name}=${value}`]
    },
    mountReadOnly: (name, path) => {
      if (container.volumeMounts?.some(({ mountPath }) => mountPath === path)) return
      container.volumeMounts = [...(container.volumeMounts ?? []), { name, mountPath: path, readOnly: true }]
      manifest.spec.volumes = [
        ...(manifest.spec.volumes ?? []),
        { name, hostPath: { path, type: 'DirectoryOrCreate' } },
      ]
    },
  })
  // As kubeadm writes it, so that a diff shows what was changed and nothing else.
  return dump(manifest, { lineWidth: -1, seqNoIndent: true })
}

/** What can be changed in a manifest. */
export interface ManifestEditor {
  /** Sets a flag of the command, or removes it where the value is undefined. */
  flag(name: string, value: string | undefined): void
  mountReadOnly(name: string, path: string): void
}

/**
 * Kills the processes of a static pod. Its kubelet starts the container again, at once the first time that it sees this happen,
 * and only after a back-off of 10 s and more the next times: a kubelet that was restarted before has forgotten the others.
 * Nobody waits for connections to drain, as they would when a manifest is replaced.
 * @returns the ids of the processes that were killed
 */
export async function killStaticPod(session: HostSession, pod: StaticPod): Promise<number[]> {
  const before = await processesOf(session, pod)
  if (before.length > 0) await session.$({ nothrow: true })`kill -KILL ${before}`
  return before
}

/** Waits until a static pod has a process that is none of `before`. Throws `HostFailedError` after `within` milliseconds. */
export async function startedAnew(
  session: HostSession,
  pod: StaticPod,
  before: readonly number[],
  { within, signal }: { within: number; signal?: AbortSignal },
): Promise<void> {
  const { host } = session
  await waitFor(
    `${pod} of ${host.name} to be started anew`,
    { within, every: 250, signal, host: host.name },
    async () => {
      const now = await processesOf(session, pod)
      return now.some(pid => !before.includes(pid))
    },
  )
}

/** Changes the manifest of a static pod where `edit` asks for something else than it says. Returns whether it did. */
export async function updateManifest(
  session: HostSession,
  pod: StaticPod,
  edit: (manifest: ManifestEditor) => void,
): Promise<boolean> {
  const { path, text, edited } = await editedManifest(session, pod, edit)
  if (edited === text) return false
  await session.files.write(path, edited, { mode: 0o600 })
  return true
}

/** For a step's plan: the manifest as `updateManifest` would write it. */
export async function plannedManifest(
  session: HostSession,
  pod: StaticPod,
  edit: (manifest: ManifestEditor) => void,
): Promise<PlannedWrite> {
  const { path, edited } = await editedManifest(session, pod, edit)
  return wouldWrite(path, edited)
}

/** The manifest of a static pod as it is, and as `edit` wants it: the very same text where it asks for nothing else. */
async function editedManifest({ files, host }: HostSession, pod: StaticPod, edit: (manifest: ManifestEditor) => void) {
  const path = `${manifestDirectory}/${pod}.yaml`
  const text = await files.readText(path)
  const where = `${host.name}:${path}`
  const edited = editManifest(text, where, edit)
  return { path, text, edited: edited === editManifest(text, where, () => {}) ? text : edited }
}

/** The processes of a static pod on its host, by the name that they were started with. */
export async function processesOf({ $ }: HostSession, pod: StaticPod): Promise<number[]> {
  // One grep over all command lines: their words end in NUL, and one of them must be the name, with or without a folder.
  const { stdout } = await $({
    nothrow: true,
    quiet: true,
  })`grep -lzxE ${`(/[^ ]*/)?${pod}`} /proc/[0-9]*/cmdline 2>/dev/null`
  return stdout
    .split('\n')
    .filter(Boolean)
    .map(path => Number(path.split('/')[2]))
}
