// `npm run bench:templates`: 1,000 certificates from one template, rendered and placed on 100 hosts on loopback, with a real
// Vault and a real sshd. Prints how much of the time no request to the issuer was under way: rekey's own share.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { connect } from '../lib/connection/connect.ts'
import { remoteFiles } from '../lib/connection/files.ts'
import { limiter } from '../lib/connection/limiter.ts'
import { remoteShell } from '../lib/connection/remote.ts'
import { placeFileSet, type WantedFile } from '../lib/operations/file-set.ts'
import { verifySet } from '../lib/pki/certificate-set.ts'
import { connectVault, vaultSecrets } from '../lib/pki/vault.ts'
import type { HostSession } from '../lib/playbook/model.ts'
import { createRenderer } from '../lib/template/render.ts'
import { labBinary, startVault } from '../test/lab/_vault-server.ts'
import { startSshd } from '../test/ssh/sshd.ts'

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '100' },
    certificates: { type: 'string', default: '1000' },
    forks: { type: 'string', default: '32' },
    'key-type': { type: 'string', default: 'rsa' },
  },
})
const hosts = Number(values.hosts)
const each = Math.ceil(Number(values.certificates) / hosts)
const keyType = values['key-type'] === 'ec' ? 'ec' : 'rsa'
/** More than this is rekey's fault. */
const mostOutside = 0.2

const template =
  '{{ with secret "pki_bench/issue/web" (printf "common_name=%s" .Name) (printf "alt_names=%s" .Name) "ttl=1000h" }}{{ .Data.certificate }}\n{{ .Data.private_key }}\n{{ .Data.issuing_ca }}\n{{ end }}'

const server = await startVault(labBinary('vault'))
const sshd = await startSshd()
const folder = mkdtempSync(join(tmpdir(), 'rekey-bench-'))
const vault = await connectVault({ address: server.address, caFile: server.caFile, token: server.rootToken })
const stop = new AbortController()
try {
  await vault.ensureMount('pki_bench', { maxLeaseTtl: '43800h' })
  await vault.generateRoot('pki_bench', { commonName: 'bench', type: 'internal', ttl: '43800h' })
  const keyBits = keyType === 'ec' ? 256 : 2048
  await vault.ensureRole('pki_bench', 'web', { allow_any_name: true, key_type: keyType, key_bits: keyBits })

  const issuer = clock()
  const ask = vaultSecrets(vault)
  const started = performance.now()
  const limit = limiter(Number(values.forks))
  await Promise.all(
    Array.from({ length: hosts }, (_, index) =>
      limit(async () => {
        const name = `host-${index}.example.org`
        const connection = await connect(name, { ...sshd.settings, connectTimeout: 60 }, stop.signal)
        try {
          const session: HostSession = {
            host: { name, groups: [], vars: {}, connection: sshd.settings },
            $: remoteShell(connection, { signal: stop.signal, timeout: 60_000 }),
            files: remoteFiles(connection, stop.signal),
            forward: (address, port) => connection.forward(address, port),
          }
          const renderer = createRenderer({ secrets: (path, data) => issuer.during(() => ask(path, data)) })
          const wanted = await Promise.all(
            Array.from({ length: each }, async (_, number): Promise<WantedFile> => {
              const data = { Name: `service-${number}.${name}` }
              const { bytes } = await renderer.render(template, { name: 'bench.tpl', data })
              const path = join(folder, name, `${number}.pem`)
              return { path, content: bytes, mode: 0o600, createFolders: true, backups: 0, component: path }
            }),
          )
          verifySet(wanted.map(({ path, content }) => ({ path, text: content.toString('utf8') })))
          await placeFileSet(session, 'bench', wanted)
        } finally {
          connection.close()
        }
      }),
    ),
  )
  const total = performance.now() - started
  const placed = readdirSync(folder, { recursive: true }).filter(path => String(path).endsWith('.pem')).length
  const outside = (total - issuer.busy()) / total
  const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`
  console.log(
    [
      `${placed} certificates (${keyType} ${keyBits}) on ${hosts} hosts in ${seconds(total)}, ${(placed / (total / 1000)).toFixed(0)} a second`,
      `the issuer was at work for ${seconds(issuer.busy())}; outside of it: ${(outside * 100).toFixed(1)} % (at most ${mostOutside * 100} %)`,
    ].join('\n'),
  )
  if (placed !== hosts * each || outside > mostOutside) process.exitCode = 1
} finally {
  stop.abort()
  vault.close()
  await Promise.all([server.stop(), sshd.stop()])
  rmSync(folder, { recursive: true, force: true })
}

/** Measures the time in which at least one of the works given to it was under way. */
function clock() {
  let running = 0
  let since = 0
  let sum = 0
  return {
    during: async <T>(work: () => Promise<T>): Promise<T> => {
      if (running++ === 0) since = performance.now()
      try {
        return await work()
      } finally {
        if (--running === 0) sum += performance.now() - since
      }
    },
    busy: () => sum,
  }
}
