// Has consul-template render every template case anew and writes down its bytes: `npm run test:update-consul-template`.
// The binary is the lab's (REKEY_BIN_DIR, or where `rekey lab up` builds it).

import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { labBinary } from '../test/lab/_vault-server.ts'
import { startCannedVault } from '../test/template/_canned-vault.ts'
import {
  type ConfigurationCase,
  readCases,
  readConfigurationCases,
  type TemplateCase,
  writeCases,
  writeConfigurationCases,
} from '../test/template/_cases.ts'

const binary = labBinary('consul-template')
if (!binary) {
  console.error('consul-template is not built: run `rekey lab up` once, or set REKEY_BIN_DIR.')
  process.exit(1)
}
console.log(spawnSync(binary, ['-version']).stderr.toString().trim())

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

async function render(program: string, one: TemplateCase) {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-oracle-'))
  try {
    const own = join(folder, 'own')
    mkdirSync(own)
    for (const [name, content] of Object.entries(one.inputs ?? {})) writeFileSync(join(own, name), content)
    writeFileSync(join(folder, 'in.tpl'), one.template)
    const configuration = {
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
    const { status, said } = await run(program, ['-once', '-config', join(folder, 'config.json')], {
      HOME: folder,
      PATH: '/usr/bin:/bin',
      FOLDER: own,
      ...one.env,
    })
    if (status !== 0) return { failed: true, said: said.split('\n').slice(-3).join(' '), wrote: {} }
    return { failed: false, said: '', wrote: { ...outputOf(join(folder, 'out')), ...filesOf(own, one) } }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
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
