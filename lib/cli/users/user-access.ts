// How users get into a cluster now: what its masters say of that, who signs for somebody, and whether each API server knows them then.
import { RekeyError } from '../../errors.ts'
import { ApiError, foundAt, type KubernetesApi, kubernetesApi } from '../../kubernetes/api/api.ts'
import { readAdministrator } from '../../kubernetes/api/cluster.ts'
import { kubeconfigFields } from '../../kubernetes/api/kubeconfig.ts'
import type { KubeconfigUser } from '../../kubernetes/api/kubeconfig-text.ts'
import { servedAt } from '../../kubernetes/components/control.ts'
import { type ClientAccess, clientAccess, type SaidTrust } from '../../kubernetes/keysets/client-access.ts'
import { signByApi, signInVault } from '../../kubernetes/keysets/client-signing.ts'
import { keysOfVault, mountsOf } from '../../kubernetes/keysets/read.ts'
import { authorityOf, keyNamesOf } from '../../kubernetes/layout/authorities.ts'
import type { Discovery } from '../../kubernetes/layout/discover.ts'
import { adminKubeconfigOf } from '../../kubernetes/layout/plan.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../pki/certificates/certificate.ts'
import { signOnHost } from '../../pki/certificates/host-signing.ts'
import type { KeysetItem } from '../../pki/keyset.ts'
import type { HostSession } from '../../playbook/model.ts'
import { tellSecret } from '../../secrets/index.ts'
import type { Reading } from '../reading/cluster.ts'
import { inVault } from '../reading/vault.ts'

/** The administrator, as a master's kubeconfig has them. */
export interface Administrator {
  /** The name of the cluster there, and where they reach it. */
  readonly cluster: string
  readonly server: string
  /** PEM; none where they come by a token, a password or a program. */
  readonly certificate?: string
}

/** What was found of how users get in. */
export interface FoundAccess {
  readonly access: ClientAccess
  readonly administrator: Administrator
  readonly masters: readonly { readonly session: HostSession; readonly found?: Discovery }[]
}

/** Somebody, as a certificate is to name them. */
export interface Who {
  readonly name: string
  readonly organizations: readonly string[]
}

/** Looks at it. Throws `RekeyError` where there is no administrator's kubeconfig, or no CA of API servers. */
export async function lookAtAccess(cluster: Reading): Promise<FoundAccess> {
  const read = await cluster.each(async session => {
    const found = await cluster.sessions.found(session.host)
    return { session, found, administrator: await administratorOn(session, found) }
  })
  const masters = read.filter(one => one !== undefined)
  const published = await cluster.inApi(async one => publishedIn(await one.api()))
  const administrators = masters.flatMap(({ administrator }) => administrator ?? [])
  const names = masters.map(({ session }) => session.host.name).join(', ')
  const [administrator] = administrators
  if (!administrator)
    throw new RekeyError(`no administrator's kubeconfig was found on ${names || 'any master'}`, {
      code: 'kubeconfig.no-administrator',
      hint: cluster.notices[0] ?? 'Are these the masters of a cluster?',
    })
  const hosts = masters.map(({ session, found }) => ({ host: session.host.name, found }))
  const access = clientAccess(hosts, [...administrators, ...(published ?? [])], text => cluster.notice(text))
  if (access) return { access, administrator, masters }
  throw new RekeyError(`no CA by which API servers are trusted was found on ${names}`, { code: 'kubeconfig.no-ca' })
}

async function administratorOn(
  { host, files }: HostSession,
  found: Discovery | undefined,
): Promise<(Administrator & SaidTrust) | undefined> {
  const path = found && adminKubeconfigOf(found.files)
  if (path === undefined) return undefined
  const where = `${host.name}:${path}`
  const read = (file: string) => files.readText(file)
  const [{ cluster }, { server, ca, certificate, key }] = [
    kubeconfigFields(await read(path), where),
    await readAdministrator(read, path, where),
  ]
  if (key) tellSecret(key, `the administrator's key on ${host.name}`)
  return { cluster: cluster || 'kubernetes', server, certificate, where, host: host.name, bundle: ca }
}

async function publishedIn(api: KubernetesApi): Promise<SaidTrust[]> {
  const all = await Promise.all(
    ['default', 'kube-system'].map(async namespace => {
      const found = await foundAt(api, `/api/v1/namespaces/${namespace}/configmaps/kube-root-ca.crt`)
      const bundle: unknown = found?.['data']?.['ca.crt']
      return typeof bundle === 'string' ? [{ where: `ConfigMap ${namespace}/kube-root-ca.crt`, bundle }] : []
    }),
  )
  return all.flat()
}

/** As whom the administrator comes. Throws `RekeyError` where no certificate says that. */
export function asAdministrator({ certificate }: Pick<Administrator, 'certificate'>): Who {
  if (certificate === undefined)
    throw new RekeyError('the administrator comes by no certificate, and nothing else says who they are', {
      code: 'kubeconfig.nameless-administrator',
      hint: 'Say it by --user NAME and --group GROUP in place of --admin.',
    })
  const { commonName, organizations } = parseCertificate(certificate, "the administrator's certificate")
  return { name: commonName, organizations }
}

/**
 * Issues a client certificate: by the CA that signs in the cluster now, wherever that can be had.
 * @param lasting milliseconds
 * @throws RekeyError where it would outlive the CA, or nobody signs it; it says why each of them doesn't
 */
export async function issueTo(
  cluster: Reading,
  found: FoundAccess,
  who: Who,
  lasting: number,
): Promise<KubeconfigUser & { readonly by: string }> {
  const { signs, missingFrom } = found.access
  const seconds = Math.ceil(lasting / 1_000)
  if (signs?.ends && signs.ends.getTime() < Date.now() + lasting)
    throw new RekeyError(
      `the CA that signs, ${signs.id}, ends on ${signs.ends.toISOString()}, before the credentials would`,
      {
        code: 'kubeconfig.outlives-ca',
        hint: 'Ask for a shorter --ttl, or have the CA renewed: rekey run renew-ca.',
      },
    )
  if (signs && missingFrom.length > 0)
    throw new RekeyError(
      `clients of ${signs.id}, the CA that signs, are not let in everywhere: ${missingFrom.join(', ')} lacks it`,
      {
        code: 'kubeconfig.not-let-in',
        hint: 'A rotation has stopped in the middle: go on with it, or undo it.',
      },
    )
  const { generateKeys, makeRequest, privateKeyPem } = await import('../../pki/issuer/signing.ts')
  const { privateKey } = await generateKeys('ec')
  const csr = await makeRequest(who.name, privateKey, who.organizations)
  const why: string[] = []
  const failed = (text: string) => void why.push(text)
  const signed =
    (signs && (await byVault(cluster, found, { signs, csr, seconds, failed }))) ??
    (signs && (await onMaster(cluster, found, { signs, csr, seconds, failed }))) ??
    (await byApi(cluster, { csr, seconds, organizations: who.organizations, failed }))
  for (const text of signed ? why : []) cluster.notice(text)
  if (signed) return { name: who.name, key: privateKeyPem(privateKey), ...signed }
  throw new RekeyError(`nobody signs a certificate for ${who.name}: ${why.join('; ')}`, { code: 'kubeconfig.unsigned' })
}

interface Ask {
  readonly signs: KeysetItem
  readonly csr: string
  readonly seconds: number
  failed(text: string): void
}

type Signed = { readonly certificate: string; readonly by: string } | undefined

async function byVault(
  cluster: Reading,
  { masters }: FoundAccess,
  { signs, csr, seconds, failed }: Ask,
): Promise<Signed> {
  const layouts = masters.flatMap(({ found }) => found?.layout ?? [])
  return inVault(
    cluster,
    async (vault, vars): Promise<Signed> => {
      for (const { where, ids = new Map<string, string>() } of await keysOfVault(vault, mountsOf(vars, layouts))) {
        const [, issuer] = [...ids].find(([pem]) => publicKeyOf(pem) === signs.key) ?? []
        if (issuer === undefined) continue
        const mount = where.replace(/^Vault /, '')
        return {
          certificate: await signInVault(vault, { mount, issuer }, csr, seconds),
          by: `${where} with ${signs.id}`,
        }
      }
      return undefined
    },
    message => failed(`the Vault does not sign: ${message}`),
  )
}

async function onMaster(
  cluster: Reading,
  { masters }: FoundAccess,
  { signs, csr, seconds, failed }: Ask,
): Promise<Signed> {
  for (const { session, found } of masters) {
    const named = Object.values(found?.layout.components ?? {}).flatMap(one =>
      (one?.files ?? []).flatMap(file => (authorityOf(one!.component, file.role) === 'kubernetes' ? [file] : [])),
    )
    for (const { path, real, key } of named) {
      const certificate = found?.files.get(path)?.certificates.find(pem => publicKeyOf(pem) === signs.key)
      const keyPath = [key?.path, ...keyNamesOf(real)].find(file => found?.files.get(file ?? '')?.key === 'private')
      if (certificate === undefined || keyPath === undefined) continue
      try {
        const { name: host } = session.host
        const signed = await signOnHost(session, { host, csr, authority: certificate, keyPath, seconds })
        return { certificate: signed, by: `the key of ${signs.id} on ${host}, which has not left it` }
      } catch (error) {
        cluster.signal.throwIfAborted()
        if (!(error instanceof RekeyError)) throw error
        failed(error.message)
        break
      }
    }
  }
  return undefined
}

async function byApi(
  cluster: Reading,
  {
    csr,
    failed,
    ...ask
  }: { csr: string; seconds: number; organizations: readonly string[]; failed(text: string): void },
): Promise<Signed> {
  try {
    const api = await (await cluster.cluster()).api()
    return {
      certificate: await signByApi(api, csr, { ...ask, signal: cluster.signal }),
      by: 'the API, which its controller-manager does',
    }
  } catch (error) {
    cluster.signal.throwIfAborted()
    if (!(error instanceof RekeyError)) throw error
    failed(error.message)
    return undefined
  }
}

/**
 * Asks each API server who comes with the credentials, where there are any, and sees whether what it presents is trusted by what users get.
 * One that does not answer is told, and left out.
 * @returns the masters whose API servers do
 * @throws RekeyError where none answers, or one does not know them
 */
export async function knownOn(
  cluster: Reading,
  { access, masters }: FoundAccess,
  user?: KubeconfigUser,
): Promise<string[]> {
  const asked = await Promise.all(
    masters.map(async ({ session, found }) => {
      const server = found?.layout.components['kube-apiserver']
      if (!server) return undefined
      const { name } = session.host
      const { address, port } = servedAt(server)
      const identity = { ca: access.bundle, certificate: user?.certificate, key: user?.key }
      const api = kubernetesApi(() => session.forward(address, port), identity, undefined, { signal: cluster.signal })
      try {
        if (user) await requireKnown(api, name, user)
        else await api.statusOf('/version', {})
        return name
      } catch (error) {
        cluster.signal.throwIfAborted()
        if (!(error instanceof RekeyError) || error.code === 'kubeconfig.unknown') throw error
        cluster.missed(`the API server of ${name} was not seen to be trusted by it: ${error.message}`)
        return undefined
      } finally {
        api.close()
      }
    }),
  )
  const names = asked.filter(one => one !== undefined)
  if (names.length > 0) return names
  throw new RekeyError('no API server was seen to be trusted by it', {
    code: 'kubeconfig.untrusted',
    hint: cluster.notices.at(-1),
  })
}

async function requireKnown(api: KubernetesApi, host: string, { name }: KubeconfigUser): Promise<void> {
  const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' }
  const answer = await api.post('/apis/authentication.k8s.io/v1/selfsubjectreviews', review).catch((error: Error) => {
    // Servers before 1.28 don't say who asks.
    if (error instanceof ApiError && error.status === 404) return undefined
    if (error instanceof ApiError && error.status === 401) return { status: { userInfo: { username: 'nobody' } } }
    throw error
  })
  const known: unknown = answer?.['status']?.userInfo?.username
  if (answer === undefined || known === name) return
  throw new RekeyError(`the API server of ${host} takes ${name} for ${String(known)}`, { code: 'kubeconfig.unknown' })
}
