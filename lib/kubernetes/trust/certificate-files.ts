// The files of one host that hold certificates: rendered from the templates, and checked where they are staged.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Secret, secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { type StagedFile, type Swap, stagedPath } from '../../operations/staging.ts'
import { ownFile } from '../../package.ts'
import { privateKeysWithin } from '../../pki/certificates/bundle-text.ts'
import {
  joinBundle,
  keyMatches,
  notCovered,
  parseCertificate,
  verifyChain,
} from '../../pki/certificates/certificate.ts'
import {
  type AuthorityName,
  type AuthorityPlan,
  type CertificateSpec,
  certificateData,
  mountOf,
} from '../../pki/specs.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { Renderer } from '../../template/render.ts'
import { readKubeconfig } from '../api/kubeconfig.ts'
import {
  type AuthorityFile,
  authorityFilesOf,
  authoritySignsTokens,
  keyNamesOf,
  signingKeysOf,
} from '../layout/authorities.ts'
import type { FileRole, HostLayout } from '../layout/host-layout.ts'
import * as kubeadm from '../layout/kubeadm/index.ts'
import type { MachineReading } from './machine.ts'

const templates = ownFile('templates', kubeadm.templates)

/** A CA that was made for this rotation. */
export interface NewAuthority {
  readonly certificate: string
  /** Only where the controller-manager must sign with it. */
  readonly key?: string
}

/** How the files of one host are rendered. */
export interface RenderRequest {
  readonly reading: MachineReading
  readonly layout: HostLayout
  readonly specs: readonly CertificateSpec[]
  readonly plans: readonly AuthorityPlan[]
  /** How long a certificate is to hold: `17520h`. */
  ttlOf(spec: CertificateSpec): string
  /** The renderer of a certificate: one for all hosts where it is shared, so that it is issued once. */
  rendererOf(spec: CertificateSpec): Renderer
  /** When this is done; names the kubelet's new client certificate. */
  readonly now: Date
}

/** The rendered certificates and kubeconfigs of one host, and what must be done to put them in place. */
export async function renderHostFiles({
  reading,
  layout,
  specs,
  plans,
  ttlOf,
  rendererOf,
  now,
}: RenderRequest): Promise<{ files: StagedFile[]; swap: Swap }> {
  const files: StagedFile[] = []
  const link: Swap['link'][number][] = []
  const remove: string[] = []
  const render = async (template: string, spec: CertificateSpec, more: Record<string, unknown> = {}) => {
    const source = await readFile(join(templates, template), 'utf8')
    const data = { ...certificateData(spec, plans, { ttl: ttlOf(spec) }), ...more }
    return (await rendererOf(spec).render(source, { name: `templates/${kubeadm.templates}/${template}`, data })).output
  }
  const kubeconfigNames = (path: string) => {
    const names = reading.kubeconfigs[path]
    if (!names)
      throw new HostFailedError(`${reading.host} has no ${path}`, { code: 'machine.no-kubeconfig', host: reading.host })
    return { Cluster: names.cluster, Context: names.context, User: names.user, Server: names.server }
  }
  const put = (path: string, content: string, isKey: boolean) => {
    const text = isKey ? secret(content, { parts: privateKeysWithin(content) }) : content
    files.push({ ...asItLies(reading, path, isKey ? 0o600 : 0o644), content: text })
  }
  const own = specs.filter(({ hosts }) => hosts.includes(reading.host))
  for (const spec of own) {
    const { place } = spec
    if (place.kind === 'pair') {
      put(place.certificate, await render('certificate.crt.tpl', spec), false)
      files.push({
        ...asItLies(reading, place.key, 0o600),
        content: secret(await render('certificate.key.tpl', spec)),
      })
    } else if (place.kind === 'kubeconfig') {
      put(place.path, await render('kubeconfig.tpl', spec, { Kubeconfig: kubeconfigNames(place.path) }), true)
    } else if (isDated(place.path)) {
      // The kubelet insists on a link to a dated file, and makes the next one itself.
      const dated = place.path.replace('-current.pem', `-${stamp(now)}.pem`)
      const content = await render('certificate.pem.tpl', spec)
      files.push({ path: dated, content: secret(content, { parts: privateKeysWithin(content) }), mode: 0o600 })
      link.push({ path: place.path, target: dated })
      const base = place.path.replace('-current.pem', '')
      remove.push(...Object.keys(reading.certificates).filter(path => path.startsWith(`${base}-2`) && path !== dated))
    } else {
      put(place.path, await render('certificate.pem.tpl', spec), true)
    }
  }
  for (const [path, client] of trustingKubeconfigs(reading, layout, own)) {
    const spec = own.find(({ authority }) => authority === 'kubernetes')
    const names = { ...kubeconfigNames(path), ClientCertificate: client.certificate, ClientKey: client.key }
    if (spec) put(path, await render('kubelet.conf.tpl', spec, { Kubeconfig: names }), true)
  }
  return { files, swap: { rename: files.map(({ path }) => path), link, remove } }
}

const isDated = (path: string) => path.endsWith('-current.pem')

/** Where a file lies when links are followed, with the mode and the owner that it has; `mode` where it is not there yet. */
export function asItLies({ files = {} }: MachineReading, path: string, mode: number): Omit<StagedFile, 'content'> {
  const facts = files[path]
  const owner = facts?.owner
  return {
    path: facts?.real ?? path,
    mode: facts?.mode ?? mode,
    ...(owner && owner !== 'root:root' && { owner }),
  }
}

/** Kubeconfigs that hold the CA and name files for their client's certificate, by path, with these files. */
function trustingKubeconfigs(
  { kubeconfigs }: MachineReading,
  layout: HostLayout,
  own: readonly CertificateSpec[],
): Map<string, { readonly certificate: string; readonly key: string }> {
  const found = new Map<string, { readonly certificate: string; readonly key: string }>()
  const written = new Set(own.flatMap(({ place }) => (place.kind === 'kubeconfig' ? [place.path] : [])))
  const dated = own.find(({ id }) => id === 'kubelet-client')?.place
  for (const component of Object.values(layout.components)) {
    for (const { role, path } of component?.files ?? []) {
      const names = kubeconfigs[path]
      if (role !== 'kubeconfig' || !names || written.has(path)) continue
      if (component?.component === 'kubelet' && dated?.kind === 'combined') {
        found.set(path, { certificate: dated.path, key: dated.path })
      } else if (names.holdsAuthority !== false && names.certificateFile !== undefined) {
        found.set(path, { certificate: names.certificateFile, key: names.keyFile ?? names.certificateFile })
      }
    }
  }
  return found
}

/**
 * The files of a pair that signs tokens of service accounts, by what they are to those who sign and verify: each with the mode and the owner
 * that it has, since a unit may run as somebody else than root. Where these are a CA's own files, its new key signs tokens from then on, and
 * there is no pair.
 */
export function serviceAccountFiles(
  reading: MachineReading,
  layout: HostLayout,
  { publicKey, privateKey }: { readonly publicKey: string; readonly privateKey: Secret },
): StagedFile[] {
  if (authoritySignsTokens(layout)) return []
  const files = Object.values(layout.components).flatMap(found => found.files)
  const staged = (role: FileRole, content: StagedFile['content']) =>
    [...new Set(files.filter(file => file.role === role).map(({ real }) => real))].map(
      (path): StagedFile => ({ ...asItLies(reading, path, 0o600), path, content }),
    )
  return [...staged('service-account-verify', publicKey), ...staged('service-account-sign', privateKey)]
}

/** The files of the CAs on one host: certificates wherever a component names them, the key where the controller-manager signs with it. */
export function authorityFiles(
  { reading, layout, more = [] }: { reading: MachineReading; layout: HostLayout; more?: readonly AuthorityFile[] },
  plans: readonly AuthorityPlan[],
  made: Readonly<Record<string, NewAuthority>>,
): { files: StagedFile[]; swap: Swap } {
  const files: StagedFile[] = []
  const authorityOf = (name: AuthorityName) => {
    // A role that the cluster has no CA for, but whose file one of its components was told.
    if (!plans.some(({ authorities }) => authorities.includes(name))) return undefined
    const authority = made[mountOf({ authority: name }, plans)]
    if (!authority)
      throw new HostFailedError(`no CA was made in ${mountOf({ authority: name }, plans)}`, {
        code: 'pki.no-authority',
      })
    return authority
  }
  const all = [...authorityFilesOf(layout), ...more]
  for (const { real, authorities } of all) {
    const certificates = authorities.flatMap(name => authorityOf(name)?.certificate ?? [])
    if (certificates.length === 0 || files.some(({ path }) => path === real)) continue
    files.push({ ...asItLies(reading, real, 0o644), path: real, content: joinBundle(...certificates) })
  }
  const key = plans.some(({ keyOnMasters }) => keyOnMasters) ? authorityOf('kubernetes')?.key : undefined
  for (const path of signingKeysOf(layout))
    if (key !== undefined) files.push({ ...asItLies(reading, path, 0o600), path, content: secret(key) })
  return {
    files,
    swap: { rename: files.map(({ path }) => path), link: [], remove: keysToRemove(reading, layout, files) },
  }
}

/** Keys of the CAs of before: they would not match, and the new ones stay in Vault. */
function keysToRemove(
  { files: found, controlPlane }: MachineReading,
  layout: HostLayout,
  written: readonly StagedFile[],
): string[] {
  const signsTokens = Object.values(layout.components)
    .flatMap(component => component?.files ?? [])
    .flatMap(({ role, real }) => (role === 'service-account-sign' ? [real] : []))
  const isThere = (path: string) => (found ? found[path]?.key === 'private' : controlPlane && path.endsWith('.key'))
  return authorityFilesOf(layout)
    .flatMap(({ real }) => keyNamesOf(real))
    .filter(path => isThere(path) && !signsTokens.includes(path) && !written.some(file => file.path === path))
}

/**
 * Checks what is staged on the host: the bytes are those that were rendered, each certificate came from the new CA, its key is
 * the one beside it, it says all that the old one says. Keys are compared by hash, and not read back.
 * @returns how many certificates, until when the first of each component holds (ISO 8601), and what the files hold, by their names
 * @throws HostFailedError naming the file, and what is wrong with it
 */
export async function verifyStaged(
  { files: remote, host }: HostSession,
  run: string,
  staged: readonly StagedFile[],
  specs: readonly CertificateSpec[],
  reading: MachineReading,
  authorityOf: (spec: CertificateSpec) => string,
): Promise<{ checked: number; until: Record<string, string>; certificates: Record<string, string> }> {
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
  const certificates = Object.fromEntries(
    [...content].map(([path, text]) => [path, certificatesAlone(text)]).filter(([, pem]) => pem !== ''),
  ) as Record<string, string>
  for (const spec of specs.filter(({ hosts }) => hosts.includes(host.name))) {
    const { place } = spec
    const lies = (named: string) => reading.files?.[named]?.real ?? named
    const path =
      place.kind === 'pair'
        ? lies(place.certificate)
        : place.kind === 'kubeconfig' || !isDated(place.path)
          ? lies(place.path)
          : [...content.keys()].find(one => one.startsWith(place.path.replace('-current.pem', '-2')))
    if (path === undefined) return wrong(spec.id, 'it is not staged')
    const text = content.get(path) ?? ''
    const kubeconfig = place.kind === 'kubeconfig' ? readKubeconfig(text, `${host.name}:${path}`) : undefined
    const certificate = kubeconfig?.certificate ?? text
    const key = kubeconfig?.key ?? (place.kind === 'pair' ? (content.get(lies(place.key)) ?? '') : text)
    verifyChain(certificate, authorityOf(spec), { source: `${host.name}: the new ${path}` })
    if (!keyMatches(certificate, key, `${host.name}: the key of ${path}`))
      wrong(path, 'its key is not the one beside it')
    const old = reading.certificates[place.kind === 'pair' ? place.certificate : place.path]
    const missing = old ? notCovered(parseCertificate(certificate), parseCertificate(old)) : []
    const uncovered = spec.renamed ? missing.filter(what => !what.startsWith('CN ')) : missing
    if (uncovered.length > 0) wrong(path, `it lacks ${uncovered.join(', ')}`)
    checked++
    // By the name that it was read by.
    delete certificates[path]
    certificates[place.kind === 'pair' ? place.certificate : place.path] = certificatesAlone(certificate)
    const ends = parseCertificate(certificate).notAfter.toISOString()
    if (!(spec.component in until) || ends < (until[spec.component] ?? '')) until[spec.component] = ends
  }
  return { checked, until, certificates }
}

/** The certificates of a file, which may hold a key as well. */
const certificatesAlone = (text: string) =>
  (text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []).join('\n')

function stamp(now: Date): string {
  return now.toISOString().slice(0, 19).replace('T', '-').replaceAll(':', '-')
}
