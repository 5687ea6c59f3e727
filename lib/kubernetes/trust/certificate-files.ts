// The files of one host that hold certificates: rendered from the templates, and checked where they are staged.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { type StagedFile, type Swap, stagedPath } from '../../operations/staging.ts'
import { privateKeysWithin } from '../../pki/certificates/bundle-text.ts'
import { keyMatches, notCovered, parseCertificate, verifyChain } from '../../pki/certificates/certificate.ts'
import { type AuthorityPlan, type CertificateSpec, certificateData } from '../../pki/specs.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { Renderer } from '../../template/render.ts'
import { readKubeconfig } from '../api/kubeconfig.ts'
import * as kubeadm from '../layout/kubeadm/index.ts'
import type { MachineReading } from './machine.ts'

const templates = join(import.meta.dirname, '../../../templates', kubeadm.templates)
const { client: kubeletClient, kubeconfig: kubeletConfig } = kubeadm.kubelet

/** A CA that was made for this rotation. */
export interface NewAuthority {
  readonly certificate: string
  /** Only where the controller-manager must sign with it. */
  readonly key?: string
}

/** How the files of one host are rendered. */
export interface RenderRequest {
  readonly reading: MachineReading
  readonly specs: readonly CertificateSpec[]
  readonly plans: readonly AuthorityPlan[]
  readonly ttl: string
  /** The renderer of a certificate: one for all hosts where it is shared, so that it is issued once. */
  rendererOf(spec: CertificateSpec): Renderer
  /** When this is done; names the kubelet's new client certificate. */
  readonly now: Date
}

/** The rendered certificates and kubeconfigs of one host, and what must be done to put them in place. */
export async function renderHostFiles({
  reading,
  specs,
  plans,
  ttl,
  rendererOf,
  now,
}: RenderRequest): Promise<{ files: StagedFile[]; swap: Swap }> {
  const files: StagedFile[] = []
  const link: Swap['link'][number][] = []
  const remove: string[] = []
  const render = async (template: string, spec: CertificateSpec, more: Record<string, unknown> = {}) => {
    const source = await readFile(join(templates, template), 'utf8')
    const data = { ...certificateData(spec, plans, { ttl }), ...more }
    return (await rendererOf(spec).render(source, { name: `templates/${kubeadm.templates}/${template}`, data })).output
  }
  const kubeconfigNames = (path: string) => {
    const names = reading.kubeconfigs[path]
    if (!names)
      throw new HostFailedError(`${reading.host} has no ${path}`, { code: 'machine.no-kubeconfig', host: reading.host })
    return { Cluster: names.cluster, Context: names.context, User: names.user, Server: names.server }
  }
  for (const spec of specs.filter(({ hosts }) => hosts.includes(reading.host))) {
    const { place } = spec
    if (place.kind === 'pair') {
      files.push({ path: place.certificate, content: await render('certificate.crt.tpl', spec), mode: 0o644 })
      files.push({ path: place.key, content: secret(await render('certificate.key.tpl', spec)), mode: 0o600 })
    } else if (place.kind === 'kubeconfig') {
      const content = await render('kubeconfig.tpl', spec, { Kubeconfig: kubeconfigNames(place.path) })
      files.push({ path: place.path, content: secret(content, { parts: privateKeysWithin(content) }), mode: 0o600 })
    } else {
      // The kubelet insists on a link to a dated file, and makes the next one itself.
      const dated = place.path.replace('-current.pem', `-${stamp(now)}.pem`)
      const content = await render('certificate.pem.tpl', spec)
      files.push({ path: dated, content: secret(content, { parts: privateKeysWithin(content) }), mode: 0o600 })
      link.push({ path: place.path, target: dated })
      const base = place.path.replace('-current.pem', '')
      remove.push(...Object.keys(reading.certificates).filter(path => path.startsWith(`${base}-2`) && path !== dated))
      if (place.path === kubeletClient) {
        const names = { ...kubeconfigNames(kubeletConfig), ClientCertificate: kubeletClient }
        files.push({
          path: kubeletConfig,
          content: await render('kubelet.conf.tpl', spec, { Kubeconfig: names }),
          mode: 0o600,
        })
      }
    }
  }
  return { files, swap: { rename: files.map(({ path }) => path), link, remove } }
}

/** The files of the CAs on one host: certificates everywhere, the key where the controller-manager signs with it. */
export function authorityFiles(
  controlPlane: boolean,
  plans: readonly AuthorityPlan[],
  made: Readonly<Record<string, NewAuthority>>,
): { files: StagedFile[]; swap: Swap } {
  const files: StagedFile[] = []
  const remove: string[] = []
  for (const { mount, authorities, keyOnMasters } of plans) {
    const authority = made[mount]
    if (!authority) throw new HostFailedError(`no CA was made in ${mount}`, { code: 'pki.no-authority' })
    for (const name of authorities) {
      if (!controlPlane && name !== 'kubernetes') continue
      const place = kubeadm.authorities[name]
      files.push({ path: place.certificate, content: authority.certificate, mode: 0o644 })
      if (!controlPlane) continue
      if (keyOnMasters && authority.key && name === 'kubernetes') {
        files.push({ path: place.key, content: secret(authority.key), mode: 0o600 })
      } else {
        // The key of the old CA would not match, and the new one stays in Vault.
        remove.push(place.key)
      }
    }
  }
  return { files, swap: { rename: files.map(({ path }) => path), link: [], remove } }
}

/**
 * Checks what is staged on the host: the bytes are those that were rendered, each certificate came from the new CA, its key is
 * the one beside it, it says all that the old one says. Keys are compared by hash, and not read back.
 * @returns how many certificates, and until when the first of each component holds (ISO 8601)
 * @throws HostFailedError naming the file, and what is wrong with it
 */
export async function verifyStaged(
  { files: remote, host }: HostSession,
  run: string,
  staged: readonly StagedFile[],
  specs: readonly CertificateSpec[],
  reading: MachineReading,
  authorityOf: (spec: CertificateSpec) => string,
): Promise<{ checked: number; until: Record<string, string> }> {
  const content = new Map(
    staged.map(file => [file.path, typeof file.content === 'string' ? file.content : file.content.reveal()]),
  )
  const wrong = (path: string, why: string): never => {
    throw new HostFailedError(`${host.name}: the new ${path} is not right: ${why}`, {
      code: 'staging.verify',
      host: host.name,
    })
  }
  // What lies there is what was rendered; that what was rendered is right can then be seen without moving a key again.
  for (const [path, text] of content) {
    const arrived = await remote.sha256(stagedPath(path, run))
    if (arrived !== createHash('sha256').update(text).digest('hex')) wrong(path, 'it did not arrive as it was rendered')
  }
  let checked = 0
  const until: Record<string, string> = {}
  for (const spec of specs.filter(({ hosts }) => hosts.includes(host.name))) {
    const { place } = spec
    const path =
      place.kind === 'pair'
        ? place.certificate
        : place.kind === 'kubeconfig'
          ? place.path
          : [...content.keys()].find(one => one.startsWith(place.path.replace('-current.pem', '-2')))
    if (path === undefined) return wrong(spec.id, 'it is not staged')
    const text = content.get(path) ?? ''
    const kubeconfig = place.kind === 'kubeconfig' ? readKubeconfig(text, `${host.name}:${path}`) : undefined
    const certificate = kubeconfig?.certificate ?? text
    const key = kubeconfig?.key ?? (place.kind === 'pair' ? (content.get(place.key) ?? '') : text)
    verifyChain(certificate, authorityOf(spec), { source: `${host.name}: the new ${path}` })
    if (!keyMatches(certificate, key, `${host.name}: the key of ${path}`))
      wrong(path, 'its key is not the one beside it')
    const old = reading.certificates[place.kind === 'pair' ? place.certificate : place.path]
    const missing = old ? notCovered(parseCertificate(certificate), parseCertificate(old)) : []
    const uncovered = spec.renamed ? missing.filter(what => !what.startsWith('CN ')) : missing
    if (uncovered.length > 0) wrong(path, `it lacks ${uncovered.join(', ')}`)
    checked++
    const ends = parseCertificate(certificate).notAfter.toISOString()
    if (!(spec.component in until) || ends < (until[spec.component] ?? '')) until[spec.component] = ends
  }
  return { checked, until }
}

function stamp(now: Date): string {
  return now.toISOString().slice(0, 19).replace('T', '-').replaceAll(':', '-')
}
