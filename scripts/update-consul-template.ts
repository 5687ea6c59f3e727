// Has consul-template render every template case anew and writes down its bytes: `npm run test:update-consul-template`.
// The binary is built where it is not yet (half a minute, with Go), or taken from REKEY_BIN_DIR.

import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { ensureBinaries } from '../lib/lab/binaries.ts'
import { startCannedVault } from '../test/template/_canned-vault.ts'
import {
  type ConfigurationCase,
  readCases,
  readConfigurationCases,
  readMachine,
  type TemplateCase,
  writeCases,
  writeConfigurationCases,
  writeFunctionNames,
} from '../test/template/_cases.ts'

const { 'consul-template': binary } = await ensureBinaries(['consul-template'], {
  report: progress => {
    if (progress.kind === 'running') console.log(`${progress.title} … ${progress.seconds.toFixed(0)} s`)
  },
})
console.log(spawnSync(binary, ['-version']).stderr.toString().trim())

writeFunctionNames(namesInSource())
const vault = await startCannedVault()
let [rendered, surprises] = [0, 0]
try {
  for (const [topic, cases] of readCases()) {
    for (const one of cases) {
      if (one.consul) continue
      const result = await render(binary, one)
      rendered++
      if (result.failed !== (one.failure === true)) {
        surprises++
        console.error(
          `${topic}: ${one.title}: consul-template ${result.failed ? `failed: ${result.said}` : 'did not fail'}`,
        )
        continue
      }
      delete one.expected
      delete one.expectedBase64
      delete one.files
      if (!result.failed) Object.assign(one, result.wrote)
    }
    writeCases(topic, cases)
  }
  const configurations = readConfigurationCases()
  for (const one of configurations) {
    const { failed, said, expected } = await renderConfiguration(binary, one)
    rendered++
    if (failed === Boolean(one.failure || one.error)) {
      delete one.expected
      if (!failed) one.expected = expected
    } else {
      surprises++
      console.error(`configuration: ${one.title}: consul-template ${failed ? `failed: ${said}` : 'did not fail'}`)
    }
  }
  writeConfigurationCases(configurations)
} finally {
  vault.stop()
}
console.log(`${rendered} cases rendered, ${surprises} not as marked`)
process.exit(surprises === 0 ? 0 : 1)

/** Every function that consul-template offers, by the source of the modules that it is built from. */
function namesInSource(): string[] {
  const source = (module: string, file: string) => {
    const options = { cwd: new URL('../lib/lab/binaries/consul-template', import.meta.url), encoding: 'utf8' } as const
    const folder = spawnSync('go', ['list', '-m', '-f', '{{.Dir}}', module], options).stdout.trim()
    return readFileSync(join(folder, file), 'utf8')
  }
  const names = (text: string) => [...text.matchAll(/(?:^\t+|, )"(\w+)":/gm)].map(([, name]) => name!)
  const [, own = ''] = source('github.com/hashicorp/consul-template', 'template/template.go').split('func funcMap(')
  const sprig = source('github.com/Masterminds/sprig/v3', 'functions.go')
  const [, hidden = '', offered = ''] = /var nonhermeticFunctions = (.*?)\n}(.*)$/s.exec(sprig) ?? []
  const hermetic = names(offered).filter(name => !hidden.includes(`"${name}"`))
  return [...names(own), ...hermetic.map(name => `sprig_${name}`)].sort()
}

async function render(program: string, one: TemplateCase) {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-oracle-'))
  try {
    const own = join(folder, 'own')
    mkdirSync(own)
    for (const [name, content] of Object.entries(one.inputs ?? {})) writeFileSync(join(own, name), content)
    writeFileSync(join(folder, 'in.tpl'), one.consulTemplate ?? one.template)
    const configuration = {
      ...(one.consulTemplate ? { consul: { address: vault.address, retry: { enabled: false } } } : {}),
      vault: { address: vault.address, token: 'a-token', renew_token: false, retry: { enabled: false } },
      template: [
        {
          source: join(folder, 'in.tpl'),
          destination: join(folder, 'out'),
          error_on_missing_key: one.strictKeys ?? false,
          ...(one.delimiters ? { left_delimiter: one.delimiters[0], right_delimiter: one.delimiters[1] } : {}),
        },
      ],
    }
    writeFileSync(join(folder, 'config.json'), JSON.stringify(configuration))
    const command = [program, '-once', '-config', join(folder, 'config.json')]
    const [file, ...args] = one.interfaces ? onMadeUpMachine(command) : command
    const { status, said } = await run(file!, args, {
      HOME: folder,
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      FOLDER: own,
      ...one.env,
    })
    if (status !== 0) return { failed: true, said: said.split('\n').slice(-3).join(' '), wrote: {} }
    return { failed: false, said: '', wrote: { ...outputOf(join(folder, 'out')), ...filesOf(own, one) } }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The command in a network namespace of its own, which has the interfaces of the fixture. */
function onMadeUpMachine(command: readonly string[]): string[] {
  const { interfaces, defaultInterface } = readMachine()
  const setUp = [
    // The kernel would add IPv6 addresses of its own.
    'sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true',
    'ip link set lo up',
    'ip link add eth0 type veth peer name eth1',
    ...interfaces.flatMap(({ name, addresses }) => [
      ...addresses.filter(() => name !== 'lo').map(one => `ip address add ${one} dev ${name}`),
      `ip link set ${name} up`,
    ]),
    `ip route add default via 192.168.5.1 dev ${defaultInterface}`,
  ]
  return ['unshare', '--net', 'sh', '-ec', `${setUp.join('\n')}\nexec "$@"`, 'sh', ...command]
}

async function renderConfiguration(program: string, one: ConfigurationCase) {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-oracle-'))
  try {
    for (const [name, content] of Object.entries(one.inputs ?? {})) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), content)
    }
    writeFileSync(join(folder, 'config'), one.text)
    const flags = ['-vault-addr', vault.address, '-vault-token', 'a-token', '-vault-renew-token=false']
    const { status, said } = await run(
      program,
      ['-once', '-vault-retry=false', ...flags, '-config', 'config'],
      { HOME: folder, PATH: '/usr/bin:/bin' },
      folder,
    )
    const inputs = { ...one.inputs, config: '' }
    const { files = {} } = filesOf(folder, { title: '', template: '', inputs }) as {
      files?: ConfigurationCase['expected']
    }
    return { failed: status !== 0, said: said.split('\n').slice(-3).join(' '), expected: files }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function run(program: string, args: string[], env: Record<string, string>, cwd?: string) {
  const child = spawn(program, args, { env, cwd, stdio: ['ignore', 'ignore', 'pipe'], timeout: 20_000 })
  let said = ''
  child.stderr.on('data', chunk => {
    said += chunk
  })
  const status = await new Promise(resolve => child.on('close', resolve))
  return { status, said: said.trim() }
}

function outputOf(path: string) {
  const bytes = readFileSync(path)
  const text = bytes.toString('utf8')
  return Buffer.from(text).equals(bytes) ? { expected: text } : { expectedBase64: bytes.toString('base64') }
}

function filesOf(folder: string, { inputs = {} }: TemplateCase) {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(name => {
    return !(name in inputs) && statSync(join(folder, name)).isFile()
  })
  if (names.length === 0) return {}
  const files = names.sort().map(name => {
    const mode = (statSync(join(folder, name)).mode & 0o7777).toString(8)
    return [name, { content: readFileSync(join(folder, name), 'utf8'), mode }]
  })
  return { files: Object.fromEntries(files) }
}
