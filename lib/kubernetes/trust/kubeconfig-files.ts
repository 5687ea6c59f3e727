// Kubeconfigs on hosts that hold more than what is issued: tokens, other clusters, other people. Of these a rotation changes what is its own.
import { secret } from '../../connection/shell.ts'
import type { StagedFile } from '../../operations/staging.ts'
import { privateKeysWithin, publicKeysOf, withCertificates } from '../../pki/certificates/bundle-text.ts'
import type { HostSession } from '../../playbook/model.ts'
import { withCurrentOf } from '../api/kubeconfig.ts'
import type { HostLayout } from '../layout/host-layout.ts'
import { asItLies } from './certificate-files.ts'
import type { MachineReading } from './machine.ts'

/**
 * Kubeconfigs that components name, that hold the CA themselves, and that are not written anew, since who comes with them is let in by a token, or
 * by a certificate of somebody else: the CA in them is another one, and nothing else is touched.
 * @param change the cluster's CA of before and the one that takes its place, PEM
 * @param written what is put in place in any case
 */
export async function kubeconfigsOfOthers(
  { files: remote }: Pick<HostSession, 'files'>,
  { reading, layout }: { readonly reading: MachineReading; readonly layout: HostLayout },
  change: { readonly old: string; readonly next: string },
  written: readonly StagedFile[],
): Promise<StagedFile[]> {
  const known = new Set(written.map(({ path }) => path))
  const named = Object.values(layout.components).flatMap(({ files }) => files)
  const paths = named.flatMap(({ role, path }) =>
    role === 'kubeconfig' && reading.kubeconfigs[path]?.holdsAuthority ? [path] : [],
  )
  const staged: StagedFile[] = []
  for (const path of new Set(paths)) {
    const place = asItLies(reading, path, 0o600)
    if (known.has(place.path)) continue
    known.add(place.path)
    const text = await remote.readText(path)
    const content = withCertificates(text, publicKeysOf(change.old), change.next)
    if (content !== text) staged.push({ ...place, content: secret(content, { parts: privateKeysWithin(content) }) })
  }
  return staged
}

/** What was rendered for a host; of a kubeconfig that holds more than its current context, with all the rest that lies there. */
export function withTheirRest(
  { files: remote }: Pick<HostSession, 'files'>,
  reading: MachineReading,
  rendered: readonly StagedFile[],
): Promise<StagedFile[]> {
  const fuller = new Set(
    Object.entries(reading.kubeconfigs).flatMap(([path, { more }]) => (more ? [asItLies(reading, path, 0).path] : [])),
  )
  return Promise.all(
    rendered.map(async file => {
      if (!fuller.has(file.path)) return file
      const next = typeof file.content === 'string' ? file.content : file.content.reveal()
      const content = withCurrentOf(await remote.readText(file.path), next, `${reading.host}:${file.path}`)
      return { ...file, content: secret(content, { parts: privateKeysWithin(content) }) }
    }),
  )
}
