// What rekey's own CA issues, before Go's verifier: the vault program as a TLS client of a server with such a certificate.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { openEmbeddedIssuer } from '../../../lib/pki/issuer/embedded-issuer.ts'
import { labBinary } from '../vault/_vault-server.ts'

const binary = labBinary('vault')
const test = anyTest.serial as TestFn
const folder = mkdtempSync(join(tmpdir(), 'rekey-go-'))
anyTest.after.always(() => rmSync(folder, { recursive: true, force: true }))

for (const [keyType, keyBits] of [
  ['rsa', 2048],
  ['ec', 256],
  ['ed25519', 0],
] as const) {
  test(`${keyType}: server and client certificate are taken, and a server of another CA is not`, async t => {
    const issuer = await openEmbeddedIssuer(join(folder, keyType), { passphrase: 'for this test only' })
    t.teardown(() => issuer.close())
    await issuer.ensureMount('pki', { maxLeaseTtl: '1000h' })
    const ask = { commonName: 'kubernetes', type: 'internal', ttl: '1000h', keyType, keyBits } as const
    const [root, other] = [await issuer.generateRoot('pki', ask), await issuer.generateRoot('pki', ask)]
    const role = { key_type: keyType, key_bits: keyBits, cn_validations: ['disabled'], organization: ['system:nodes'] }
    await issuer.ensureRole('pki', 'server', { ...role, client_flag: false })
    await issuer.ensureRole('pki', 'client', { ...role, server_flag: false })
    const server = await issuer.issue('pki', 'server', { commonName: 'system:node:m1', ipAddresses: ['127.0.0.1'] })
    const client = await issuer.issue('pki', 'client', { commonName: 'system:node:m1' })

    const clients: string[] = []
    const listener = createServer(
      { cert: server.certificate, key: server.privateKey, ca: root.certificate, requestCert: true },
      (request, response) => {
        const socket = request.socket as unknown as {
          authorized: boolean
          getPeerCertificate(): { subject: { CN: string } }
        }
        if (socket.authorized) clients.push(socket.getPeerCertificate().subject.CN)
        response.writeHead(404).end('{"errors":[]}')
      },
    )
    await new Promise<void>(resolve => listener.listen(0, '127.0.0.1', resolve))
    t.teardown(() => listener.close())
    const address = `https://127.0.0.1:${(listener.address() as { port: number }).port}`
    const file = (name: string, text: string) => {
      const path = join(folder, `${keyType}-${name}`)
      writeFileSync(path, text, { mode: 0o600 })
      return path
    }
    const said = (ca: string) =>
      status({
        VAULT_ADDR: address,
        VAULT_CACERT: file('ca', ca),
        VAULT_CLIENT_CERT: file('crt', client.certificate),
        VAULT_CLIENT_KEY: file('key', client.privateKey!),
      })
    t.regex(await said(root.certificate), /Code: 404/)
    t.deepEqual(clients, ['system:node:m1'])
    t.regex(await said(other.certificate), /certificate signed by unknown authority/)
  })
}

async function status(variables: Record<string, string>): Promise<string> {
  const child = spawn(binary, ['status'], { env: { ...variables, HOME: folder, VAULT_MAX_RETRIES: '0' } })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      said += chunk
    })
  }
  await new Promise(resolve => child.on('close', resolve))
  return said
}
