// A server of this process that answers as those of a cluster do that know their clients by certificates.
import { createServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Door } from '../../../lib/kubernetes/probes/doors.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'

/** Makes servers: each trusts clients of the CA as front proxies, and answers those that it knows and those that it doesn't. */
export async function listener(authority: Issued) {
  const server = await issue({ name: 'CN=server', issuer: authority })
  return (known: (user: string) => [number, string], unknown?: [number, string]) =>
    listen({ authority, server }, known, unknown)
}

async function listen(
  { authority, server }: { authority: Issued; server: Issued },
  known: (user: string) => [number, string],
  unknown: [number, string] = [401, 'Unauthorized'],
) {
  const seen: { method?: string; path?: string; body: string }[] = []
  const listening = createServer(
    { cert: server.pem, key: server.keyPem, ca: authority.pem, requestCert: true, rejectUnauthorized: false },
    (request, answer) => {
      let body = ''
      request.on('data', chunk => {
        body += chunk
      })
      request.on('end', () => {
        seen.push({ method: request.method, path: request.url, body })
        const by = (request.socket as TLSSocket).authorized
        const [status, text] = by ? known(String(request.headers['x-remote-user'])) : unknown
        answer.writeHead(status).end(text)
      })
    },
  )
  await new Promise<void>(resolve => listening.listen(0, '127.0.0.1', resolve))
  const { port } = listening.address() as AddressInfo
  const door = (question: Door['question'] = { path: '/metrics' }): Door => ({
    ...{ where: 'kube-scheduler of m1', place: `m1:${port}`, question },
    open: async () => connect(port, '127.0.0.1'),
  })
  return { door, seen, close: () => listening.close(), port }
}

/** How one refuses somebody whom it knows. */
export const refusal = (user: string): [number, string] => [403, `forbidden: User "${user}" cannot get path "/metrics"`]
