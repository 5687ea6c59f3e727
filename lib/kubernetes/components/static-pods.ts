// The manifests of static pods: the control plane that kubelets run from a folder of them. Texts only.
import { dump, load } from 'js-yaml'
import { HostFailedError } from '../../errors.ts'

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
export function editManifest(text: string, where: string, edit: (flags: FlagEditor) => void): string {
  const manifest = load(text) as Manifest | undefined
  const container = manifest?.spec?.containers?.[0]
  if (!manifest?.metadata || !container?.command || manifest.spec.containers.length !== 1) {
    throw new HostFailedError(`${where} is not the manifest of a pod with one container and a command`, {
      code: 'static-pod.manifest',
    })
  }
  edit({
    flag: (name, value) => {
      const next = (value === undefined ? [] : [value].flat()).map(one => `--${name}=${one}`)
      const isSo = (word: string) => word.startsWith(`--${name}=`)
      if (next.length > 0 && next.join() === container.command.filter(isSo).join()) return
      container.command = [...container.command.filter(word => !isSo(word)), ...next]
    },
    mountReadOnly: (name, path) => {
      if (container.volumeMounts?.some(({ mountPath }) => mountPath === path)) return
      const volumes = manifest.spec.volumes ?? []
      const free = volumes.some(volume => volume.name === name) ? `rekey-${name}` : name
      container.volumeMounts = [...(container.volumeMounts ?? []), { name: free, mountPath: path, readOnly: true }]
      manifest.spec.volumes = [...volumes, { name: free, hostPath: { path, type: 'DirectoryOrCreate' } }]
    },
  })
  // As kubeadm writes it, so that a diff shows what was changed and nothing else.
  return dump(manifest, { lineWidth: -1, seqNoIndent: true })
}

/** What can be changed of how a component is started. */
export interface FlagEditor {
  /** Sets a flag of the command, once for each value, or removes it where the value is undefined. */
  flag(name: string, value: string | readonly string[] | undefined): void
  /** Gives a pod a folder of its host, under a name; what runs on the host has it anyway. */
  mountReadOnly(name: string, path: string): void
}
