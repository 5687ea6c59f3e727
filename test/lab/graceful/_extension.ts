// An extension API server for a lab's cluster: it runs in this process, knows callers by what API servers tell it in a ConfigMap, as those of
// Kubernetes do, and is called through each API server all the time.
import { X509Certificate } from 'node:crypto'
import { createServer, request } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import type * as lab from '../../../lib/lab/index.ts'
import { splitBundle } from '../../../lib/pki/certificates/certificate.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { on } from '../_outside.ts'

const group = 'probe.rekey.example'
/** What it is called by API servers, and by who asks it. */
export const extensionName = `v1.${group}`
const path = `/apis/${group}/v1`

export interface Extension {
  /** Its calls until now, and what those said that did not get through. */
  seen(): { calls: number; failures: string[] }
  /** Has it hear of no other CA until it is released, as one that reads the ConfigMap once. */
  hold(): void
  release(): void
  close(): void
}

/** Starts it, has the cluster know it, and waits until each API server reaches it. */
export async function startExtension(shape: lab.Shape): Promise<Extension> {
  const ask = await administrator(shape)
  const [first, ...others] = shape.machines.filter(({ role }) => role === 'master')
  let bundle: X509Certificate[] = []
  let names: string[] = []
  let held = false
  const read = async () => {
    const { data } = JSON.parse(
      (await ask(first!.address, '/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication')).text,
    ) as { data: Record<string, string> }
    if (held) return
    bundle = splitBundle(data['requestheader-client-ca-file'] ?? '').map(pem => new X509Certificate(pem))
    names = JSON.parse(data['requestheader-allowed-names'] ?? '[]') as string[]
  }
  await read()

  const { pem, keyPem } = await issue({ name: 'CN=extension' })
  const server = createServer(
    { cert: pem, key: keyPem, requestCert: true, rejectUnauthorized: false },
    (asked, answer) => {
      const proxy = (asked.socket as TLSSocket).getPeerX509Certificate()
      const name = proxy?.subject.match(/(?:^|\n)CN=(.*)/)?.[1] ?? ''
      const trusted =
        proxy && bundle.some(one => proxy.checkIssued(one) && proxy.verify(one.publicKey)) && names.includes(name)
      const user = trusted ? asked.headers['x-remote-user'] : undefined
      answer.setHeader('content-type', 'application/json')
      if (user === undefined) answer.writeHead(401).end('{"kind":"Status","code":401}')
      else if (asked.url?.split('?')[0] !== path)
        answer.writeHead(403).end(JSON.stringify({ kind: 'Status', code: 403, message: `User "${user}" may not` }))
      else
        answer.end(
          JSON.stringify({ kind: 'APIResourceList', apiVersion: 'v1', groupVersion: `${group}/v1`, resources: [] }),
        )
    },
  )
  await new Promise<void>(resolve => server.listen(0, shape.gateway, resolve))
  await on(shape, first!.name, manifest(shape.gateway, (server.address() as AddressInfo).port))

  const masters = [first!, ...others].map(({ address }) => address)
  const through = async (address: string) => {
    const { status, text } = await ask(address, path).catch(({ message }: Error) => ({ status: 0, text: message }))
    return status === 200 ? '' : `through ${address}: ${status} ${text.slice(0, 200)}`
  }
  for (let attempt = 1; (await Promise.all(masters.map(through))).some(Boolean); attempt++) {
    if (attempt === 60) throw new Error(`the extension was not reached within a minute: ${await through(masters[0]!)}`)
    await delay(1_000)
  }
  const seen = { calls: 0, failures: [] as string[] }
  let open = true
  const every = async (milliseconds: number, work: () => Promise<unknown>) => {
    for (; open; await delay(milliseconds)) await work()
  }
  void every(1_000, () => read().catch(() => {}))
  for (const address of masters)
    void every(200, async () => {
      const failure = await through(address)
      seen.calls++
      if (failure !== '') seen.failures.push(`${new Date().toISOString()} ${failure}`)
    })
  return {
    seen: () => structuredClone(seen),
    hold: () => {
      held = true
    },
    release: () => {
      held = false
    },
    close: () => {
      open = false
      server.closeAllConnections()
      server.close()
    },
  }
}

/** Asks an API server as the cluster's administrator, each time by a connection of its own. */
async function administrator(shape: lab.Shape) {
  const config = await on(shape, 'm1', 'cat /etc/kubernetes/admin.conf')
  const field = (name: string) =>
    Buffer.from(config.match(new RegExp(`${name}: (\\S+)`))?.[1] ?? '', 'base64').toString()
  const [cert, key] = [field('client-certificate-data'), field('client-key-data')]
  return (host: string, path: string) =>
    new Promise<{ status: number; text: string }>((resolve, reject) => {
      const asked = request(
        { ...{ host, port: 6443, path, cert, key, agent: false, rejectUnauthorized: false, timeout: 15_000 } },
        answer => {
          let text = ''
          answer.setEncoding('utf8')
          answer.on('data', (chunk: string) => {
            text += chunk
          })
          answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
        },
      )
      asked.on('timeout', () => asked.destroy(new Error('nothing within 15 s')))
      asked.on('error', reject)
      asked.end()
    })
}

const manifest = (
  address: string,
  port: number,
) => `export KUBECONFIG=/etc/kubernetes/admin.conf; kubectl apply -f - <<'END'
apiVersion: v1
kind: Service
metadata: { name: rekey-extension, namespace: default }
spec: { ports: [{ name: https, port: 443, targetPort: ${port} }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: rekey-extension, namespace: default, labels: { kubernetes.io/service-name: rekey-extension } }
addressType: IPv4
ports: [{ name: https, port: ${port} }]
endpoints: [{ addresses: ['${address}'], conditions: { ready: true } }]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: { name: ${extensionName} }
spec:
  group: ${group}
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: { namespace: default, name: rekey-extension, port: 443 }
END`
