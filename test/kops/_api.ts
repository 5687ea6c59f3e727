// The objects of a cluster's API, as far as the procedures over kOps ask for them: kept in a file of the state store, so that a test may put them back.
// Beside them work what a cluster has: the controller-manager that writes tokens, and those that make pods anew.
import { randomUUID } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface Stored {
  metadata: {
    name: string
    namespace?: string
    uid?: string
    deletionTimestamp?: string
    annotations?: Record<string, string>
    ownerReferences?: { kind: string; name: string; controller?: boolean }[]
  }
  data?: Record<string, string | null>
  [more: string]: unknown
}

/** Each by `RESOURCE/NAMESPACE/NAME`. */
type Objects = Record<string, Stored>

const file = (store: string) => join(store, 'api.json')
export const readObjects = (store: string) => JSON.parse(readFileSync(file(store), 'utf8')) as Objects
const save = (store: string, objects: Objects) => writeFileSync(file(store), JSON.stringify(objects))

const ready = {
  phase: 'Running',
  conditions: [{ type: 'Ready', status: 'True' }],
  containerStatuses: [{ ready: true }],
}

/** A cluster with a pod network, a DNS, one that users have made, a pod that is nobody's, and tokens in Secrets. */
export function seedObjects(store: string): void {
  const objects: Objects = {}
  const add = (resource: string, namespace: string, name: string, more: object = {}) => {
    const metadata = { name, ...(namespace && { namespace }), uid: randomUUID() }
    objects[`${resource}/${namespace}/${name}`] = { metadata, ...more } as Stored
  }
  const pod = (namespace: string, name: string, kind?: string, owner?: string) => {
    add('pods', namespace, name, { spec: { nodeName: 'n1' }, status: ready })
    if (!kind || !owner) return
    Object.assign(objects[`pods/${namespace}/${name}`]!.metadata, {
      ownerReferences: [{ kind, name: owner, controller: true }],
      ...(kind === 'ReplicaSet' && { labels: { 'pod-template-hash': owner.split('-').at(-1) } }),
    })
  }
  add('nodes', '', 'n1', { status: { conditions: [{ type: 'Ready', status: 'True' }] } })
  for (const name of ['default', 'kube-system', 'shop']) {
    add('namespaces', '', name, { status: { phase: 'Active' } })
    add('configmaps', name, 'kube-root-ca.crt', { data: {} })
  }
  const rolledOut = { updatedReplicas: 1, availableReplicas: 1, replicas: 1 }
  const daemons = { desiredNumberScheduled: 1, updatedNumberScheduled: 1, numberAvailable: 1 }
  const template = { spec: { hostNetwork: true, containers: [] } }
  add('daemonsets', 'kube-system', 'cni', { kind: 'DaemonSet', spec: { template }, status: daemons })
  const dns = { metadata: { labels: { 'k8s-app': 'kube-dns' } }, spec: { containers: [] } }
  add('deployments', 'kube-system', 'coredns', {
    kind: 'Deployment',
    spec: { replicas: 1, template: dns },
    status: rolledOut,
  })
  add('services', 'kube-system', 'kube-dns', { spec: { selector: { 'k8s-app': 'kube-dns' } } })
  pod('kube-system', 'kube-apiserver-cp', 'Node', 'cp')
  pod('kube-system', 'cni-1', 'DaemonSet', 'cni')
  pod('kube-system', 'coredns-5d-1', 'ReplicaSet', 'coredns-5d')
  pod('shop', 'web-77-1', 'ReplicaSet', 'web-77')
  pod('shop', 'once')
  add('serviceaccounts', 'shop', 'robot')
  for (const [name, account] of [
    ['robot-token', 'robot'],
    ['orphan-token', 'gone'],
  ] as const) {
    add('secrets', 'shop', name, { type: 'kubernetes.io/service-account-token', data: { token: base64('first') } })
    objects[`secrets/shop/${name}`]!.metadata.annotations = { 'kubernetes.io/service-account.name': account }
  }
  add('secrets', 'shop', 'password', { type: 'Opaque', data: { password: base64('swordfish') } })
  save(store, objects)
}

const base64 = (text: string) => Buffer.from(text).toString('base64')

const discovery: Record<string, object> = {
  '/version': { major: '1', minor: '35' },
  '/apis': { groups: [] },
  '/api/v1': { resources: [{ name: 'secrets', namespaced: true, verbs: ['list', 'patch'] }] },
}

/** What the cluster runs with: whom pods are told to trust, and with which key tokens are signed. */
export interface Running {
  readonly ca: string
  readonly tokens: string
}

interface Answer {
  readonly status: number
  readonly body: object
}

/** The pods that were deleted, and take a while to end. */
const endingOf = (objects: Objects) =>
  Object.entries(objects).filter(([, { metadata }]) => metadata.deletionTimestamp !== undefined)

/** A pod ends, and whoever owns it makes another one. */
function end(objects: Objects, key: string): void {
  const { metadata, listed: _, ...more } = objects[key]!
  delete objects[key]
  const [resource, namespace] = key.split('/')
  const [owner] = metadata.ownerReferences ?? []
  if (!owner) return
  const { deletionTimestamp: __, ...kept } = metadata
  const name = `${owner.name}-${randomUUID().slice(0, 5)}`
  objects[`${resource}/${namespace}/${name}`] = { ...more, metadata: { ...kept, name, uid: randomUUID() } }
}

/** One that is deleted is listed once more, and has ended by the next time. */
function goOnEnding(store: string, objects: Objects): void {
  for (const [key, object] of endingOf(objects)) {
    if (object['listed']) end(objects, key)
    else object['listed'] = true
    save(store, objects)
  }
}

/** Answers a request as the API of the cluster does. */
export function answerOf(store: string, method: string, url: string, body: string, { ca, tokens }: Running): Answer {
  const { pathname, searchParams } = new URL(url, 'https://api')
  const known = discovery[pathname]
  if (known) return { status: 200, body: known }
  const words = pathname
    .split('/')
    .filter(Boolean)
    .slice(pathname.startsWith('/api/') ? 2 : 3)
  const namespace = words[0] === 'namespaces' && words.length > 2 ? words[1] : undefined
  const [resource = '', name] = namespace === undefined ? words : words.slice(2)
  const objects = readObjects(store)
  const seen = (object: Stored): Stored => (resource === 'configmaps' ? { ...object, data: { 'ca.crt': ca } } : object)
  if (name === undefined) {
    if (resource === 'pods') goOnEnding(store, objects)
    const [, wantedName] = /metadata\.name=(.*)/.exec(searchParams.get('fieldSelector') ?? '') ?? []
    const [, wantedType] = /type=(.*)/.exec(searchParams.get('fieldSelector') ?? '') ?? []
    const items = Object.entries(objects)
      .filter(([key]) => key.startsWith(`${resource}/${namespace === undefined ? '' : `${namespace}/`}`))
      .map(([, object]) => seen(object))
      .filter(({ metadata }) => wantedName === undefined || metadata.name === wantedName)
      .filter(object => wantedType === undefined || object['type'] === wantedType)
    return { status: 200, body: { kind: 'List', items, metadata: {} } }
  }
  const key = `${resource}/${namespace ?? ''}/${name}`
  const object = objects[key]
  if (!object) return { status: 404, body: { message: `${key} not found` } }
  if (method === 'DELETE') {
    // Pods that begin while the network is away have none.
    if (endingOf(objects).length > 0) return { status: 403, body: { message: `${key} comes too early` } }
    if (object.metadata.ownerReferences?.[0]?.kind === 'DaemonSet')
      object.metadata.deletionTimestamp = new Date().toISOString()
    else end(objects, key)
    save(store, objects)
  }
  if (method === 'PATCH') {
    const { data = {} } = JSON.parse(body || '{}') as Pick<Stored, 'data'>
    object.data = { ...object.data, ...data }
    if (object.data['token'] === null)
      object.data = { ...object.data, token: base64(`token-of-${tokens}`), 'ca.crt': base64(ca) }
    if (body === '{}') object['touched'] = Number(object['touched'] ?? 0) + 1
    save(store, objects)
  }
  return { status: 200, body: seen(object) }
}
