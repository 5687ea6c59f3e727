// `npm run bench:templates`: 1,000 certificates from one template, rendered and placed on 100 hosts on loopback by `rekey template`, with a
// real Vault and a real sshd. Prints how much longer that takes than the same requests to the same Vault alone: rekey's own share.
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { limiter } from '../lib/connection/limiter.ts'
import { ensureBinaries } from '../lib/lab/binaries.ts'
import { connectVault } from '../lib/pki/vault/vault.ts'
import { startVault } from '../test/lab/vault/_vault-server.ts'
import { startSshd } from '../test/ssh/sshd.ts'
import { counted } from './counted.ts'

const { values } = parseArgs({
  options: {
    hosts: { type: 'string', default: '100' },
    certificates: { type: 'string', default: '1000' },
    forks: { type: 'string', default: '32' },
    'key-type': { type: 'string', default: 'rsa' },
  },
})
const hosts = counted('hosts', values.hosts)
const each = Math.ceil(counted('certificates', values.certificates) / hosts)
const keyType = values['key-type'] === 'ec' ? 'ec' : 'rsa'
const keyBits = keyType === 'ec' ? 256 : 2048
/** More than this is rekey's fault. */
const mostOutside = 0.2

const { vault: binary } = await ensureBinaries(['vault'], {
  report: progress => {
    if (progress.kind === 'running') console.log(`${progress.title} … ${progress.seconds.toFixed(0)} s`)
  },
})
const server = await startVault(binary)
const sshd = await startSshd(['MaxStartups 2000', 'LogLevel ERROR'])
const folder = mkdtempSync(join(tmpdir(), 'rekey-bench-'))
const vault = await connectVault({ address: server.address, caFile: server.caFile, token: server.rootToken })
try {
  await vault.ensureMount('pki_bench', { maxLeaseTtl: '43800h' })
  await vault.generateRoot('pki_bench', { commonName: 'bench', type: 'internal', ttl: '43800h' })
  await vault.ensureRole('pki_bench', 'web', { allow_any_name: true, key_type: keyType, key_bits: keyBits })
  const { config, inventory } = writeInput()

  // Half of them before and half after, so that what else the machine does is in both.
  const half = Math.floor((hosts * each) / 2)
  const before = await issueAlone(half)
  const total = await rekeyTemplate(config, inventory)
  const alone = before + (await issueAlone(hosts * each - half))

  const placed = readdirSync(join(folder, 'placed'), { recursive: true }).filter(path => String(path).endsWith('.pem'))
  const outside = Math.max(0, (total - alone) / total)
  const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`
  console.log(
    [
      `${placed.length} certificates (${keyType} ${keyBits}) on ${hosts} hosts in ${seconds(total)}, ${(placed.length / (total / 1000)).toFixed(0)} a second`,
      `the same requests to the issuer alone: ${seconds(alone)}; time outside of it: ${(outside * 100).toFixed(1)} % (at most ${mostOutside * 100} %)`,
    ].join('\n'),
  )
  if (placed.length !== hosts * each || outside > mostOutside) process.exitCode = 1
} finally {
  vault.close()
  await Promise.all([server.stop(), sshd.stop()])
  rmSync(folder, { recursive: true, force: true })
}

/** The template, its configuration, and the inventory, all in the bench's folder. */
function writeInput(): { config: string; inventory: string } {
  const [config, inventory] = [join(folder, 'config.hcl'), join(folder, 'hosts.yml')]
  const place = join(folder, 'placed')
  const template = `{{- $host := .Host.Name -}}
{{- range loop ${each} }}{{ $name := printf "service-%d.%s" . $host -}}
{{- with secret "pki_bench/issue/web" (printf "common_name=%s" $name) "ttl=1000h" -}}
{{- printf "%s\\n%s\\n%s\\n" .Data.certificate .Data.private_key .Data.issuing_ca | writeToFile (printf "${place}/%s/%s.pem" $host $name) "" "" "0600" -}}
{{- end }}{{ end -}}
all of them
`
  writeFileSync(join(folder, 'bench.tpl'), template)
  // Every host is this machine, where the destination is as it shall be: only what is in a folder of the host's own is placed.
  mkdirSync(place)
  writeFileSync(join(place, 'done'), 'all of them\n')
  writeFileSync(config, `template {\n  source = "bench.tpl"\n  destination = "${place}/done"\n}\n`)
  const { port, user, privateKeyFile, knownHostsFiles } = sshd.settings as Required<typeof sshd.settings>
  const variables = {
    ...{ ansible_host: '127.0.0.1', ansible_port: port, ansible_user: user },
    ...{ ansible_ssh_private_key_file: privateKeyFile, rekey_directory: join(folder, 'on-hosts') },
    ansible_ssh_common_args: `-o UserKnownHostsFile=${knownHostsFiles[0]} -o StrictHostKeyChecking=yes`,
  }
  const names = Object.fromEntries(Array.from({ length: hosts }, (_, index) => [`host-${index}.example.org`, null]))
  writeFileSync(inventory, JSON.stringify({ all: { hosts: names, vars: variables } }))
  return { config, inventory }
}

/** Milliseconds that the issuer takes for so many certificates that nobody renders or places. */
async function issueAlone(count: number): Promise<number> {
  const limit = limiter(16)
  const started = performance.now()
  await Promise.all(
    Array.from({ length: count }, (_, index) =>
      limit(() => vault.write('pki_bench/issue/web', { common_name: `alone-${index}.example.org`, ttl: '1000h' })),
    ),
  )
  return performance.now() - started
}

/** Milliseconds that `rekey template` takes for all hosts, from its start to its end. */
async function rekeyTemplate(config: string, inventory: string): Promise<number> {
  const program = join(dirname(dirname(fileURLToPath(import.meta.url))), 'bin', 'rekey')
  const words = ['template', 'all', '-i', inventory, '-c', config, '--forks', values.forks, '--output', 'plain']
  const env = {
    ...process.env,
    ...{ VAULT_ADDR: server.address, VAULT_CACERT: server.caFile, VAULT_TOKEN: server.rootToken },
    ...{ XDG_STATE_HOME: join(folder, 'state'), SSH_AUTH_SOCK: '' },
  }
  const started = performance.now()
  const child = spawn(process.execPath, [program, ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      said += chunk
    })
  }
  const code = await new Promise(resolve => child.on('close', resolve))
  if (code !== 0) throw new Error(`rekey template ended with ${code}:\n${said.slice(-3000)}`)
  return performance.now() - started
}
