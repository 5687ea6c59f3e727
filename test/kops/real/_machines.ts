// What the machines of a real kops would run, as far as it asks: an API server that presents and trusts what the instance of the control plane was told
// in the state store when it was born, and nodes that are the instances.
import 'reflect-metadata'
import { createPrivateKey, webcrypto } from 'node:crypto'
import { createServer } from 'node:https'
import { type AddressInfo, createServer as createTcp, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { SecureContextOptions, TLSSocket } from 'node:tls'
import { SubjectAlternativeNameExtension, X509Certificate } from '@peculiar/x509'
import type { ExecutionContext } from 'ava'
import { load } from 'js-yaml'
import type { s3Store } from '../../../lib/kops/store/s3-store.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { issue, rsa } from '../../pki/certificates/_certificates.ts'
import { answerOf, seedObjects } from '../_api.ts'

/** An instance that runs. */
export interface Machine {
  readonly id: string
  /** Its autoscaling group. */
  readonly group: string
  readonly address: string
}

/** What an API server is started with. */
interface Told {
  /** PEM: those that it trusts. */
  readonly authorities: string
  readonly secure: SecureContextOptions
}

type Store = Pick<ReturnType<typeof s3Store>, 'get'>

const isControlPlane = ({ group }: Machine) => group.startsWith('control-plane-')

/** The API of a cluster. */
export interface MachinesApi {
  readonly port: number
  /** What it was asked, with what it said. */
  readonly asked: readonly string[]
  /** Is told which instances there are now. */
  follow(machines: readonly Machine[], store: Store, cluster: string): Promise<void>
}

/** Starts it; nobody is let in before there is a control plane. */
export async function startMachinesApi(t: ExecutionContext): Promise<MachinesApi> {
  const folder = temporaryFolder('kops-real-api')
  seedObjects(folder)
  const asked: string[] = []
  let machines: readonly Machine[] = []
  let told: Told | undefined
  let born: string | undefined
  const server = createServer({ requestCert: true, rejectUnauthorized: false }, (request, response) => {
    const { method = '', url = '' } = request
    let body = ''
    request.on('data', chunk => (body += chunk))
    request.on('end', () => {
      const isKnown = (request.socket as TLSSocket).authorized
      const { status, body: answer } = !isKnown
        ? {
            status: 401,
            body: {
              kind: 'Status',
              apiVersion: 'v1',
              status: 'Failure',
              reason: 'Unauthorized',
              message: 'Unauthorized',
              code: 401,
            },
          }
        : (ofMachines(machines, url) ??
          answerOf(folder, method, url, body, { ca: told?.authorities ?? '', tokens: born ?? '' }))
      asked.push(`${method} ${url.replace(/\?.*/, '')} ${status}`)
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
    })
  })
  server.on('tlsClientError', () => {})
  const sockets = new Set<Socket>()
  const outside = createTcp(socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket)).on('error', () => {})
    if (!told) return socket.destroy()
    server.setSecureContext(told.secure)
    server.emit('connection', socket)
  }).listen(0, '127.0.0.1')
  await new Promise(resolve => outside.once('listening', resolve))
  const endAll = () => {
    for (const socket of sockets) socket.destroy()
  }
  t.teardown(() => {
    endAll()
    outside.close()
  })
  return {
    port: (outside.address() as AddressInfo).port,
    asked,
    follow: async (now, store, cluster) => {
      machines = now
      const plane = now.find(isControlPlane)
      if (plane?.id === born) return
      // The machine is gone, and whoever was connected to it.
      told = undefined
      endAll()
      born = plane?.id
      if (plane) told = await tellMachine(store, cluster, plane)
    },
  }
}

/** What kOps has an instance of the control plane start with, in its state store; it waits for it, as an instance does. */
async function tellMachine(store: Store, cluster: string, { group }: Machine): Promise<Told> {
  const name = group.slice(0, -cluster.length - 1).replace(/\.masters$/, '')
  const paths = [`igconfig/control-plane/${name}/nodeupconfig.yaml`, 'pki/private/kubernetes-ca/keyset.yaml']
  for (let tries = 0; tries < 300; tries++, await delay(100)) {
    const [config, keyset] = await Promise.all(paths.map(async path => (await store.get(`${cluster}/${path}`))?.text))
    if (config === undefined || keyset === undefined) continue
    const { CAs, KeypairIDs } = load(config) as Record<'CAs' | 'KeypairIDs', Record<string, string>>
    const { spec } = load(keyset) as { spec: { keys: Record<'id' | 'publicMaterial' | 'privateMaterial', string>[] } }
    const signing = spec.keys.find(({ id }) => id === KeypairIDs['kubernetes-ca'])!
    const [pem, keyPem] = [signing.publicMaterial, signing.privateMaterial].map(text =>
      Buffer.from(text, 'base64').toString('utf8'),
    ) as [string, string]
    const certificate = new X509Certificate(pem)
    const key = createPrivateKey(keyPem).export({ type: 'pkcs8', format: 'der' })
    const keys = {
      privateKey: await webcrypto.subtle.importKey('pkcs8', key, rsa, false, ['sign']),
      publicKey: await certificate.publicKey.export(),
    } as webcrypto.CryptoKeyPair
    const names = ['kubernetes.default.svc', `api.internal.${cluster}`].map(value => ({ type: 'dns' as const, value }))
    const extensions = [new SubjectAlternativeNameExtension([...names, { type: 'ip', value: '127.0.0.1' }])]
    const issuer = { pem, keyPem, keys, certificate }
    const own = await issue({ name: 'CN=kubernetes-master', issuer, extensions })
    const authorities = CAs['kubernetes-ca'] ?? ''
    return { authorities, secure: { cert: own.pem, key: own.keyPem, ca: authorities } }
  }
  throw new Error(`there is no configuration of ${name} in the state store`)
}

/** What is asked of nodes and pods; undefined where it is about something else. */
function ofMachines(machines: readonly Machine[], url: string): { status: number; body: object } | undefined {
  const { pathname, searchParams } = new URL(url, 'https://api')
  const [, what, name] = /^\/api\/v1\/(nodes|pods)(?:\/(.+))?$/.exec(pathname) ?? []
  const list = (kind: string, items: object[]) => ({
    status: 200,
    body: { kind, apiVersion: 'v1', metadata: {}, items },
  })
  if (what === 'pods') {
    // Of each node, those of the control plane alone: a drain finds nothing to do.
    const isOfNode = searchParams.has('fieldSelector')
    return list('PodList', isOfNode ? [] : machines.filter(isControlPlane).flatMap(podsOf))
  }
  if (what !== 'nodes') return undefined
  const nodes = machines.map(nodeOf)
  if (name === undefined) return list('NodeList', nodes)
  const found = nodes.find(({ metadata }) => metadata.name === name)
  return found
    ? { status: 200, body: { kind: 'Node', apiVersion: 'v1', ...found } }
    : {
        status: 404,
        body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404 },
      }
}

const nodeOf = (machine: Machine) => ({
  metadata: {
    name: machine.id,
    labels: isControlPlane(machine) ? { 'node-role.kubernetes.io/control-plane': '' } : {},
  },
  spec: { providerID: `aws:///us-east-1a/${machine.id}` },
  status: {
    addresses: [{ type: 'InternalIP', address: machine.address }],
    conditions: [{ type: 'Ready', status: 'True' }],
    nodeInfo: { kubeletVersion: 'v1.35.3' },
  },
})

const podsOf = ({ id, address }: Machine) =>
  ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'].map(app => ({
    metadata: { name: `${app}-${id}`, namespace: 'kube-system', labels: { 'k8s-app': app } },
    spec: { priorityClassName: 'system-cluster-critical', nodeName: id },
    status: { phase: 'Running', hostIP: address, containerStatuses: [{ name: app, ready: true }] },
  }))
