// Static pods: the control plane that kubelets run from the manifests in /etc/kubernetes/manifests.
import { dump, load } from 'js-yaml'
import { HostFailedError } from '../errors.ts'
import { waitFor } from '../operations/wait.ts'
import type { HostSession } from '../playbook/model.ts'

export type StaticPod = 'etcd' | 'kube-apiserver' | 'kube-controller-manager' | 'kube-scheduler'

/** Where kubeadm tells kubelets to look. */
export const manifestDirectory = '/etc/kubernetes/manifests'

/** The annotation that makes a manifest another one, so that its pod is made anew. */
const restartAnnotation = 'rekey/restarted'

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
    annotate: (name, value) => {
      manifest.metadata.annotations = { ...manifest.metadata.annotations, [name]: value }
    },
    flag: (name, value) => {
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
  return dump(manifest, { lineWidth: -1 })
}

/** What can be changed in a manifest. */
export interface ManifestEditor {
  annotate(name: string, value: string): void
  /** Sets a flag of the command, or removes it where the value is undefined. */
  flag(name: string, value: string | undefined): void
  mountReadOnly(name: string, path: string): void
}

/** The value of a flag in a manifest's command. */
export function flagOf(text: string, name: string): string | undefined {
  const words = (load(text) as Manifest | undefined)?.spec?.containers?.[0]?.command ?? []
  return words.find(word => word.startsWith(`--${name}=`))?.slice(name.length + 3)
}

/**
 * Makes a static pod anew: its manifest gets an annotation, and the old process is killed so that nobody waits for it to drain.
 * A new manifest is a new pod to the kubelet, so it starts without the back-off that killing alone would meet the second time.
 * Returns when the old process is gone; what the new one must be is for the caller to wait for.
 * @param token a value that the pod was not restarted with before: the id of the run and the step
 */
export async function restartStaticPod(
  session: HostSession,
  pod: StaticPod,
  {
    token,
    within,
    edit,
    signal,
  }: { token: string; within: number; edit?: (manifest: ManifestEditor) => void; signal?: AbortSignal },
): Promise<void> {
  const { $, files, host } = session
  const path = `${manifestDirectory}/${pod}.yaml`
  const before = await processesOf(session, pod)
  const text = await files.readText(path)
  const edited = editManifest(text, `${host.name}:${path}`, manifest => {
    manifest.annotate(restartAnnotation, token)
    edit?.(manifest)
  })
  await files.write(path, edited, { mode: 0o600 })
  for (const pid of before) await $({ nothrow: true })`kill -KILL ${pid}`
  await waitFor(
    `${pod} of ${host.name} to be started anew`,
    { within, every: 250, signal, host: host.name },
    async () => {
      const now = await processesOf(session, pod)
      return now.some(pid => !before.includes(pid))
    },
  )
}

/** The processes of a static pod on its host, by the name that they were started with. */
export async function processesOf({ $ }: HostSession, pod: StaticPod): Promise<number[]> {
  // One grep over all command lines: their words end in NUL, and one of them must be the name, with or without a folder.
  const { stdout } = await $({ nothrow: true })`grep -lzxE ${`(/[^ ]*/)?${pod}`} /proc/[0-9]*/cmdline 2>/dev/null`
  return stdout
    .split('\n')
    .filter(Boolean)
    .map(path => Number(path.split('/')[2]))
}
