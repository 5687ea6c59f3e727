// Who lets in whom: each server of a cluster that knows its clients by certificates, asked directly, as somebody who may do nothing. A server
// that knows who asks says so when it refuses; one that does not says 401, or takes them for nobody.
import type { Duplex } from 'node:stream'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { foundAt, type KubernetesApi } from '../api/api.ts'
import { servedAt } from '../components/control.ts'
import { etcdAccess, etcdByTls } from '../components/etcd-access.ts'
import type { ComponentName, HostLayout } from '../layout/host-layout.ts'
import { type AskedAs, askAs, type Credential } from './ask-as.ts'

/** A server, and a question that tells whether it knows who asks. */
export interface Door {
  /** `kube-apiserver of m1`, `extension API server v1beta1.metrics.k8s.io at 10.85.0.7`. */
  readonly where: string
  /** `m1:6443`. */
  readonly place: string
  readonly question: AskedAs
  /** It names nobody: whoever's certificate it takes in the handshake is let in, and others are not. */
  readonly byHandshake?: true
  /** The host whose peers of etcd it is for: it hangs up on whoever comes from there and is named for another one. */
  readonly peersOf?: string
  open(): Promise<Duplex>
}

/** Who asks: somebody by a certificate, or by a proxy's word; without one by a token. */
export interface Visitor {
  readonly credential?: Credential
  /** As the server is to call them. */
  readonly user: string
  readonly headers?: Readonly<Record<string, string>>
  /** The host that their certificate is named for, where it is for one. */
  readonly namedFor?: string
}

const whoAmI: AskedAs = {
  method: 'POST',
  path: '/apis/authentication.k8s.io/v1/selfsubjectreviews',
  body: { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' },
}

const questions: Partial<Readonly<Record<ComponentName, AskedAs>>> = {
  'kube-apiserver': whoAmI,
  'kube-controller-manager': { path: '/metrics' },
  'kube-scheduler': { path: '/metrics' },
  kubelet: { path: '/pods' },
}

/** The door of a component on its host; undefined where it is not there, or knows no clients by certificates. */
export function doorOf(session: HostSession, { components }: HostLayout, component: ComponentName): Door | undefined {
  const [found, question] = [components[component], questions[component]]
  if (!found || !question) return undefined
  const { name } = session.host
  const { address, port } = servedAt(found)
  return {
    ...{ where: `${component} of ${name}`, place: `${name}:${port}`, question },
    open: () => session.forward(address, port),
  }
}

/** The doors of a member of etcd: for its clients and for its peers, as far as it knows them by certificates. */
export function etcdDoors(session: HostSession, layout: HostLayout): Door[] {
  if (!layout.components.etcd) return []
  const { peer } = etcdAccess(layout)
  const client = etcdByTls(layout)
  const { name } = session.host
  const doors = [
    [`etcd of ${name}`, client, {}],
    [`etcd of ${name} (peers)`, peer, { peersOf: name }],
  ] as const
  return doors
    .flatMap(([where, at, more]) => (at?.tls ? [{ where, at, more }] : []))
    .map(({ where, at: { address, port }, more }) => ({
      ...{ where, place: `${name}:${port}`, question: { path: '/version' }, byHandshake: true, ...more },
      open: () => session.forward(address, port),
    }))
}

/** Those of some visitors that a server can be asked by: all but those who are named for other hosts, where it minds that, and there are others. */
export function fittingFor<Any extends Visitor>({ peersOf }: Door, visitors: readonly Any[]): readonly Any[] {
  const own = visitors.filter(({ namedFor = peersOf }) => peersOf === undefined || namedFor === peersOf)
  return own.length > 0 ? own : visitors
}

/** Whether a server knows a visitor. Rejects with `HostFailedError` where it doesn't answer, or says something that tells neither. */
export async function isKnown(
  { open, place, question, byHandshake }: Door,
  { credential, user, headers }: Visitor,
): Promise<boolean> {
  if (byHandshake) return isTaken({ open, place, question }, credential ?? {})
  const { status, text } = await askAs(open, place, credential ?? {}, { ...question, headers })
  return status !== 401 && names(text, user)
}

/** Whether a server takes a certificate; that it hangs up without a word is no answer. */
async function isTaken(
  { open, place, question }: Pick<Door, 'open' | 'place' | 'question'>,
  credential: Partial<Credential>,
) {
  try {
    return (await askAs(open, place, credential, question)).status === 200
  } catch (error) {
    if (error instanceof HostFailedError && refusedInHandshake.test(codeOf(error.cause))) return false
    throw error
  }
}

const codeOf = (error: unknown) => String((error as { readonly code?: unknown } | undefined)?.code ?? '')

/** What a server says in a handshake of a certificate that it does not take. */
const refusedInHandshake =
  /ALERT_(BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)/

/** Whether a text names somebody, and not somebody else whose name begins alike. */
function names(text: string, user: string): boolean {
  const at = text.indexOf(user)
  return at >= 0 && !/[\w:.-]/.test(text[at + user.length] ?? '')
}

/** Where an extension API server is asked. */
interface ExtensionPlace {
  readonly name: string
  readonly address: string
  readonly port: number
}

/**
 * The doors of extension API servers: each address behind each of the API's services, as a host reaches it.
 * @param session a host that reaches the network of pods
 */
export async function extensionDoors(session: HostSession, api: KubernetesApi, signal?: AbortSignal): Promise<Door[]> {
  const doors: Door[] = []
  for await (const { metadata, spec } of api.each('/apis/apiregistration.k8s.io/v1/apiservices', { signal })) {
    const service = spec?.['service'] as { namespace: string; name: string; port?: number } | undefined
    if (!service) continue
    for (const place of await placesOf(api, metadata.name, service)) {
      const question = { path: `/apis/${spec?.['group']}/${spec?.['version']}/rekey-probe` }
      doors.push({
        ...{ where: `extension API server ${place.name} at ${place.address}`, place: `${place.address}:${place.port}` },
        question,
        open: () => session.forward(place.address, place.port),
      })
    }
  }
  return doors
}

async function placesOf(
  api: KubernetesApi,
  name: string,
  { namespace, name: service, port = 443 }: { namespace: string; name: string; port?: number },
): Promise<ExtensionPlace[]> {
  const found = await foundAt(api, `/api/v1/namespaces/${namespace}/services/${service}`)
  const portName = (found?.spec?.['ports'] as { name?: string; port: number }[] | undefined)?.find(
    one => one.port === port,
  )?.name
  const slices = await api.list(
    `/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D${service}`,
  )
  return slices.flatMap(slice => {
    const ports = (slice['ports'] ?? []) as { name?: string; port?: number }[]
    const target = ports.find(one => (one.name ?? '') === (portName ?? ''))?.port
    const endpoints = (slice['endpoints'] ?? []) as { addresses: string[]; conditions?: { ready?: boolean } }[]
    if (target === undefined) return []
    return endpoints
      .filter(({ conditions }) => conditions?.ready !== false)
      .flatMap(({ addresses }) => addresses.slice(0, 1).map(address => ({ name, address, port: target })))
  })
}
