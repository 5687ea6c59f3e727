// `rekey template` end to end on this machine: what it places, what it leaves alone, and that a failure changes nothing.
// Over 500 lines: one command, and what each of its blocks and flags does to the files of a machine.
import 'reflect-metadata'
import { execFileSync } from 'node:child_process'
import { createPrivateKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import type { ServerResponse } from 'node:http'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import test, { type ExecutionContext } from 'ava'
import { openEmbeddedIssuer } from '../../lib/pki/issuer/embedded-issuer.ts'
import { ownMountsMissing, withOwnMounts } from '../_mounts.ts'
import { start } from '../_process.ts'
import { served } from '../_served.ts'
import { issue } from '../pki/certificates/_certificates.ts'
import { startCannedVault } from './_canned-vault.ts'

const vault = await startCannedVault()
const dnsNames = ['a.example.org', 'b.example.org'].map(value => ({ type: 'dns' as const, value }))
const names = { name: 'CN=a.example.org', extensions: [new SubjectAlternativeNameExtension(dnsNames)] }
const inHours = (hours: number) => new Date(Date.now() + hours * 3_600_000)
const short = await issue({ ...names, notAfter: inHours(100) })
const early = await issue({ ...names, notBefore: inHours(1), notAfter: inHours(1100) })
const root = mkdtempSync(join(tmpdir(), 'rekey-template-'))
test.after.always(() => {
  vault.stop()
  rmSync(root, { recursive: true, force: true })
})

const mountsMissing = ownMountsMissing()
const withMounts = mountsMissing ? test.skip : test.serial
if (mountsMissing) test.skip(`what takes mounts is not tested: ${mountsMissing}`, () => {})

let count = 0
/** A folder with a configuration, and what runs the command on this machine as the hosts `a` and `b`. */
function scene(configuration: string) {
  const folder = join(root, String(++count))
  mkdirSync(join(folder, 'out'), { recursive: true })
  const config = join(folder, 'config.hcl')
  writeFileSync(config, configuration.replaceAll('OUT', join(folder, 'out')))
  const own = `ansible_connection=local rekey_directory=${join(folder, 'on-hosts')}`
  writeFileSync(join(folder, 'hosts'), `a ${own}\nb ${own}\n`)
  const on = (pattern: string, args: string[], how?: How) =>
    rekey(folder, [pattern, '-i', join(folder, 'hosts'), '-c', config, ...args], how)
  const run = (...args: string[]) => on('a', args)
  return { folder, out: join(folder, 'out'), config, on, run }
}

/** Has an issuer answer what is asked of a mount, until the test ends. Returns what tells how often it issued. */
function answeredBy(t: ExecutionContext, issuer: Awaited<ReturnType<typeof openEmbeddedIssuer>>, mount: string) {
  let issues = 0
  vault.before = async (method, path, body) => {
    if (!path.startsWith(mount)) return undefined
    if (method !== 'GET') issues++
    return method === 'GET' ? issuer.read(path) : issuer.write(path, body)
  }
  t.teardown(() => {
    vault.before = undefined
    issuer.close()
  })
  return () => issues
}

interface How {
  /** What the command is started with. */
  readonly wrapper?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
}

const program = join(import.meta.dirname, '..', '..', 'bin', 'rekey')

async function rekey(folder: string, args: string[], { wrapper = [], environment }: How = {}) {
  const env = {
    PATH: process.env['PATH'],
    HOME: folder,
    // Of the user who runs the tests: compiled code is in it.
    XDG_CACHE_HOME: process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
    XDG_STATE_HOME: folder,
    VAULT_ADDR: vault.address,
    VAULT_TOKEN: 't',
    ...environment,
  }
  if (wrapper.length === 0) {
    const { code, stdout, stderr } = await served({ args: ['template', ...args], cwd: process.cwd(), env })
    return { code, stdout, stderr, all: stdout + stderr }
  }
  const [file, ...words] = [...wrapper, process.execPath, program, 'template', ...args]
  return start(file!, words, env)
}

const secretTemplate = '{{ with secret \\"secret/app\\" }}{{ .Data.password }}{{ end }}'

test.serial('places what was rendered, runs each command once, and leaves it alone the second time', async t => {
  const { out, run } = scene(`
    template {
      contents = "${secretTemplate}"
      destination = "OUT/deep/password"
      perms = "0600"
      command = "echo ran >> OUT/ran"
    }
    template {
      contents = "{{ .Host.Name }} {{ env \\"HOME\\" | len | lt 0 }}"
      destination = "OUT/host"
      command = "echo ran >> OUT/ran"
    }`)
  const first = await run()
  t.is(first.code, 0, first.all)
  t.is(readFileSync(join(out, 'deep/password'), 'utf8'), 's3cr3t')
  t.is(statSync(join(out, 'deep/password')).mode & 0o777, 0o600)
  t.is(readFileSync(join(out, 'host'), 'utf8'), 'a true')
  t.is(readFileSync(join(out, 'ran'), 'utf8'), 'ran\n')
  t.false(first.all.includes('s3cr3t'))
  const second = await run()
  t.is(second.code, 0, second.all)
  t.is(readFileSync(join(out, 'ran'), 'utf8'), 'ran\n')
  chmodSync(join(out, 'deep/password'), 0o644)
  t.is((await run()).code, 0)
  t.is(statSync(join(out, 'deep/password')).mode & 0o777, 0o600)
  t.is(readFileSync(join(out, 'ran'), 'utf8'), 'ran\nran\n')
})

test.serial('a login is made for the rendering, and its token is given back', async t => {
  const { out, on } = scene(`template {\n contents = "${secretTemplate}"\n destination = "OUT/a"\n}\n`)
  const asked: string[] = []
  vault.before = async (method, path) => {
    if (path.startsWith('auth/')) asked.push(`${method} ${path}`)
    return path === 'auth/k/login' ? { auth: { client_token: 'of-the-login' } } : undefined
  }
  t.teardown(() => {
    vault.before = undefined
  })
  const login = { VAULT_AUTH_METHOD: 'approle', VAULT_AUTH_PATH: 'k', VAULT_ROLE_ID: 'r', VAULT_SECRET_ID: 's3cr3t-id' }
  const { code, all } = await on('a', [], { environment: { ...login, VAULT_TOKEN: '' } })
  t.is(code, 0, all)
  t.is(readFileSync(join(out, 'a'), 'utf8'), 's3cr3t')
  t.deepEqual(asked, ['POST auth/k/login', 'POST auth/token/revoke-self'])
  t.false(all.includes('s3cr3t-id'))
})

test.serial("Vault's certificate is not left unverified by one word", async t => {
  const { out, on } = scene(`template {\n contents = "${secretTemplate}"\n destination = "OUT/a"\n}\n`)
  const VAULT_ADDR = vault.address.replace('http:', 'https:')
  const { code, all } = await on('a', [], { environment: { VAULT_SKIP_VERIFY: '1', VAULT_ADDR } })
  t.is(code, 2, all)
  t.regex(
    all.replaceAll(/\s+/g, ' '),
    /VAULT_SKIP_VERIFY is set, and Vault's certificate is not left unverified by that/,
  )
  t.deepEqual(readdirSync(out), [])
})

test.serial('a template that is named without a full path stands beside its configuration', async t => {
  const { folder, out, on } = scene('')
  const beside = join(folder, 'consul-template')
  mkdirSync(beside)
  writeFileSync(join(beside, 'a.tpl'), '{{ .Host.Name }}')
  const config = join(beside, 'configuration')
  writeFileSync(config, `template {\n source = "a.tpl"\n destination = "${out}/a"\n}\n`)
  const { code, all } = await on('b', ['-c', config])
  t.is(code, 0, all)
  t.is(readFileSync(join(out, 'a'), 'utf8'), 'b')
})

test.serial('sockaddr tells the addresses of the host', async t => {
  const expression = 'GetAllInterfaces | include `name` `^lo$` | include `type` `ipv4` | attr `string`'
  const { out, run } = scene(
    `template {\n contents = "{{ sockaddr \\"${expression}\\" }}"\n destination = "OUT/address"\n}\n`,
  )
  const { code, all } = await run()
  t.is(code, 0, all)
  t.is(readFileSync(join(out, 'address'), 'utf8'), '127.0.0.1/8')
})

test.serial('--dry prints what consul-template -dry prints, and places nothing', async t => {
  const { out, run, on } = scene('template {\n contents = "one\\n"\n destination = "OUT/a"\n}\n')
  const { code, stdout } = await run('--dry')
  t.is(code, 0)
  t.is(stdout, `> ${join(out, 'a')}\none\n`)
  const several = await on('all', ['--dry', '--forks', '1'])
  t.is(several.stdout, `> a:${join(out, 'a')}\none\n> b:${join(out, 'a')}\none\n`)
  t.deepEqual(readdirSync(out), [])
})

test.serial('--check says what would be done, and neither asks nor places', async t => {
  const { out, run } = scene(`
    template {
      contents = "{{ with secret \\"secret/none\\" }}{{ end }}"
      destination = "OUT/a"
      command = "touch OUT/b"
    }`)
  const { code, all } = await run('--check')
  t.is(code, 0, all)
  t.true(all.includes(`write ${join(out, 'a')} where it differs`))
  t.deepEqual(readdirSync(out), [])
})

test.serial('--diff shows what is placed, and neither what Vault said nor what stood there before', async t => {
  const { out, run } = scene(`
    template {
      contents = "name: app\\nphrase: ${secretTemplate}\\n"
      destination = "OUT/open"
    }
    template {
      contents = "the word is ${secretTemplate}\\n"
      destination = "OUT/closed"
      perms = "0600"
    }`)
  writeFileSync(join(out, 'open'), 'name: old\nphrase: bef0re\n')
  const { code, all } = await run('--diff')
  t.is(code, 0, all)
  t.regex(
    all,
    /\+\+\+ \S+\/open\n.*\n +a \| -name: old\n +a \| -phrase: «\w{12}»\n +a \| \+name: app\n +a \| \+phrase: «\w{12}»\n/,
  )
  t.regex(all, /--- \/dev\/null\n +a \| \+\+\+ \S+\/closed\n.*\n +a \| \+«\w{12}»\n/)
  t.notRegex(all, /s3cr3t|bef0re|the word|\.rekey-/)
})

test.serial('--check --diff compares what asks nothing of Vault, and places nothing', async t => {
  const { out, run } = scene(`
    template {
      contents = "name: {{ .Host.Name }}\\n"
      destination = "OUT/open"
    }
    template {
      contents = "same\\n"
      destination = "OUT/same"
    }
    template {
      contents = "${secretTemplate}"
      destination = "OUT/asks"
    }`)
  writeFileSync(join(out, 'open'), 'name: old\n')
  writeFileSync(join(out, 'same'), 'same\n')
  const { code, all } = await run('--check', '--diff')
  t.is(code, 0, all)
  t.regex(all, /a \| -name: old\n +a \| \+name: a\n/)
  t.regex(all, /would: write \S+\/open\n +would: write \S+\/asks where it differs\n/)
  t.notRegex(all, /would: write \S+\/same/)
  t.is(readFileSync(join(out, 'open'), 'utf8'), 'name: old\n')
  t.deepEqual(readdirSync(out).sort(), ['open', 'same'])
})

test.serial('a backup is kept of what was there, and owners are set by name', async t => {
  const isRoot = process.getuid?.() === 0
  // Some users and groups are numbers only.
  const user = isRoot ? '\n user = "54321"\n gid = 54322' : ''
  const written = isRoot ? '\\"daemon\\" \\"2\\"' : '\\"\\" \\"\\"'
  const contents = `{{ \\"key\\" | writeToFile \\"OUT/written\\" ${written} \\"0400\\" }}new`
  const { out, run } = scene(
    `template {\n contents = "${contents}"\n destination = "OUT/a"\n backup = true${user}\n}\n`,
  )
  writeFileSync(join(out, 'a'), 'old')
  const { code, all } = await run()
  t.is(code, 0, all)
  const daemon = Number(execFileSync('id', ['-u', 'daemon']))
  const ownersOf = (name: string) => [statSync(join(out, name)).uid, statSync(join(out, name)).gid]
  if (isRoot)
    t.deepEqual(['a', 'written'].map(ownersOf), [
      [54321, 54322],
      [daemon, 2],
    ])
  t.is(statSync(join(out, 'written')).mode & 0o777, 0o400)
  t.is(readFileSync(join(out, 'a'), 'utf8'), 'new')
  t.is(readFileSync(join(out, 'a.bak'), 'utf8'), 'old')
})

test.serial('what is not said of permissions and owner stays as it is, and keys for everybody are told', async t => {
  const { privateKey } = generateKeyPairSync('ed25519')
  const key = (privateKey.export({ type: 'pkcs8', format: 'pem' }) as string).replaceAll('\n', '\\n')
  const block = (name: string, more = '', contents = 'new') =>
    `template {\n contents = "${contents}"\n destination = "OUT/${name}"\n${more}}\n`
  const said = ' perms = "0600"\n'
  const keys = block('open.key', '', key) + block('closed.key', said, key)
  const { out, run } = scene(block('old') + block('fresh') + block('said', said) + keys)
  const isRoot = process.getuid?.() === 0
  for (const name of ['old', 'said']) {
    writeFileSync(join(out, name), 'old')
    chmodSync(join(out, name), 0o640)
    if (isRoot) chownSync(join(out, name), 1, 2)
  }
  const { code, all } = await run()
  t.is(code, 0, all)
  const state = (name: string) => {
    const { mode, uid, gid } = statSync(join(out, name))
    return [readFileSync(join(out, name), 'utf8'), (mode & 0o777).toString(8), ...(isRoot ? [uid, gid] : [])]
  }
  t.deepEqual(state('old'), ['new', '640', ...(isRoot ? [1, 2] : [])])
  t.deepEqual(state('said'), ['new', '600', ...(isRoot ? [1, 2] : [])])
  t.deepEqual(state('fresh'), ['new', '644', ...(isRoot ? [0, 0] : [])])
  t.regex(all.replaceAll(/\s+/g, ' '), /open\.key holds a private key, and every user of the host may read it/)
  t.notRegex(all, /closed\.key holds/)
  t.regex((await run()).all, /ok +Put the files in place/)
})

test.serial('N backups are kept, and those of one number belong together', async t => {
  const block = (name: string, text: string, command = 'true') =>
    `template {\n contents = "${text}"\n destination = "OUT/${name}"\n backup = true\n command = "${command}"\n}\n`
  const { out, config, run } = scene('')
  const generations: [key: string, chain: string][] = [
    ['key 1', 'chain'],
    ['key 2', 'chain'],
    ['key 3', 'chain'],
    ['key 4', 'other chain'],
  ]
  for (const [key, chain] of generations) {
    const other = block('other', 'never changes', 'echo')
    writeFileSync(config, (block('key', key) + block('chain', chain) + other).replaceAll('OUT', out))
    const { code, all } = await run('--backups', '2')
    t.is(code, 0, all)
  }
  const held = readdirSync(out).map(name => [name, readFileSync(join(out, name), 'utf8')])
  t.deepEqual(Object.fromEntries(held), {
    key: 'key 4',
    'key.bak': 'key 3',
    'key.bak.2': 'key 2',
    chain: 'other chain',
    'chain.bak': 'chain',
    'chain.bak.2': 'chain',
    other: 'never changes',
  })
})

test.serial(
  'a certificate is legal text in YAML, in JSON, on one line and before other text, and left alone there',
  async t => {
    const issuer = await openEmbeddedIssuer(join(root, 'ca-in-texts.sealed'), { passphrase: 'of this test' })
    await issuer.ensureMount('pki', { maxLeaseTtl: '43800h' })
    await issuer.generateRoot('pki', { commonName: 'k', type: 'internal', ttl: '43800h', keyType: 'ec' })
    await issuer.ensureRole('pki', 'web', { allow_any_name: true, key_type: 'ec', key_bits: 256 })
    const issues = answeredBy(t, issuer, 'pki/')
    const answer = vault.before!
    vault.before = async (method, path, body) => {
      const answered = await answer(method, path, body)
      const lease_id = `pki/issue/web/${randomBytes(12).toString('hex')}`
      return method === 'GET' || !answered ? answered : { ...answered, lease_id }
    }
    const { out, config, run } = scene('')
    const secret = (name: string) => `{{ with secret "pki/issue/web" "common_name=${name}.example.org" "ttl=20h" }}`
    const texts = {
      yaml: `${secret('a')}tls.crt: |\n{{ .Data.certificate | indent 4 }}\ntls.key: |\n{{ .Data.private_key | indent 4 }}{{ end }}\n`,
      json: `${secret('b')}{"cert": {{ .Data.certificate | toJSON }}, "key": {{ .Data.private_key | toJSON }}}{{ end }}`,
      line: `${secret('c')}CERT="{{ .Data.certificate | replaceAll "\\n" "\\\\n" }}"\nKEY='{{ .Data.private_key | replaceAll "\\n" " " }}'{{ end }}`,
      behind: `${secret('d')}{{ .Data.certificate }}{{ .Data.private_key_type }}{{ end }}`,
      lease: `${secret('e')}{{ .LeaseID }}\n{{ .Data.certificate }}{{ end }}`,
    }
    const blocks = Object.entries(texts).map(([name, contents]) => ({
      contents,
      destination: join(out, name),
      perms: '0600',
    }))
    const placed = async () => {
      // A certificate whose key nobody asks for is left alone without it where no template beside it asks for one.
      for (const some of [blocks.slice(0, 3), blocks.slice(3)]) {
        writeFileSync(config, JSON.stringify({ template: some }))
        const { code, all } = await run()
        t.is(code, 0, all)
      }
      return Object.keys(texts).map(name => readFileSync(join(out, name), 'utf8'))
    }
    const first = await placed()
    t.is(issues(), 5)
    t.deepEqual(await placed(), first)
    t.is(issues(), 5)
    // One whose key is nowhere has to be issued anew, and the run says why.
    const contents = `${secret('d')}{{ .Data.certificate }}{{ .Data.private_key | sha256Hex }}{{ end }}`
    writeFileSync(config, JSON.stringify({ template: [{ ...blocks[3], contents }] }))
    const { all } = await run()
    t.is(issues(), 6)
    const said = all.replaceAll(/\s+/g, ' ').replaceAll('a | ', '')
    t.true(said.includes('"d.example.org" is issued anew: its private key lies in none of the files'), all)
  },
)

test.serial('a certificate that is as it would be issued now is left alone; one of another CA is not', async t => {
  const issuer = await openEmbeddedIssuer(join(root, 'ca.sealed'), { passphrase: 'of this test' })
  await issuer.ensureMount('pki', { maxLeaseTtl: '43800h' })
  const ca = { commonName: 'k', type: 'internal', ttl: '43800h', keyType: 'ec' } as const
  await issuer.generateRoot('pki', ca)
  await issuer.ensureRole('pki', 'web', { allow_any_name: true, key_type: 'ec', key_bits: 256 })
  const asked: string[] = []
  vault.before = async (method, path, body) => {
    if (!path.startsWith('pki/')) return undefined
    asked.push(`${method} ${path}`)
    return method === 'GET' ? issuer.read(path) : issuer.write(path, body)
  }
  t.teardown(() => {
    vault.before = undefined
    issuer.close()
  })
  const call = '"pki/issue/web" "common_name=a.example.org" "ttl=100h"'
  const { out, config, run } = scene('')
  const configuration = `
    template {
      contents = <<-END
        {{ with secret ${call} }}{{ .Data.certificate }}
        {{ .Data.issuing_ca }}{{ end }}
        END
      destination = "OUT/web.crt"
      command = "echo ran >> OUT/ran"
    }
    template {
      contents = <<-END
        {{ with pkiCert ${call} }}{{ .Key | writeToFile "OUT/web.key" "" "" "0600" }}{{ .Cert }}{{ end }}
        END
      destination = "OUT/again.crt"
      command = "echo ran >> OUT/ran"
    }`
  writeFileSync(config, configuration.replaceAll('OUT', out))
  const place = async (...more: string[]) => {
    asked.length = 0
    const { code, all } = await run(...more)
    t.is(code, 0, all)
    const issues = asked.filter(one => one.includes('/issue/')).length
    return { issues, all, certificate: readFileSync(join(out, 'web.crt'), 'utf8') }
  }
  const first = await place()
  t.is(first.issues, 1)
  const second = await place()
  t.deepEqual([second.issues, second.certificate], [0, first.certificate])
  t.is(readFileSync(join(out, 'ran'), 'utf8'), 'ran\n')
  t.is((await place('--renew')).issues, 1)
  const next = await issuer.generateRoot('pki', ca)
  await issuer.setDefaultIssuer('pki', next.issuerId)
  const third = await place()
  t.is(third.issues, 1)
  t.true(
    third.all.replaceAll(/\s+/g, ' ').includes('"a.example.org" is issued anew: its issuer is not "CN=k"'),
    third.all,
  )
  t.true(third.certificate.includes(next.certificate.trim()))
  t.is((await place()).issues, 0)
  // Who may not read the role can't compare.
  vault.takeOver = (path, response) => {
    if (path !== 'pki/roles/web') return false
    says(403, 'permission denied')(response)
    return true
  }
  t.teardown(() => {
    vault.takeOver = undefined
  })
  const blind = await place()
  t.is(blind.issues, 1)
  const said = blind.all.replaceAll(/\s+/g, ' ').replaceAll('a | ', '')
  t.regex(said, /"a\.example\.org" is issued anew: .*permission denied for read on pki\/roles\/web/)
  t.true(said.includes('path "pki/roles/web" { capabilities = ["read"] }'), said)
})

test.serial(
  "the document's template, which asks for no key, leaves its certificate alone; with one for the key both are issued",
  async t => {
    const issuer = await openEmbeddedIssuer(join(root, 'document.sealed'), { passphrase: 'of this test' })
    await issuer.ensureMount('pki_k8s', { maxLeaseTtl: '43800h' })
    await issuer.generateRoot('pki_k8s', { commonName: 'k', type: 'internal', ttl: '43800h', keyType: 'ec' })
    const role = { allow_any_name: true, max_ttl: '43800h', key_type: 'ec', key_bits: 256 } as const
    await issuer.ensureRole('pki_k8s', 'kubernetes', role)
    const issued = answeredBy(t, issuer, 'pki_k8s/')
    const cases = readFileSync(join(import.meta.dirname, 'cases', 'document.json'), 'utf8')
    const [certificate, key] = (JSON.parse(cases) as { template: string }[]).map(({ template }) =>
      template.replaceAll('IP.ADDRESS.MASTER', '10.0.0'),
    )
    const { folder, out, config, run } = scene('')
    const block = (name: string, template: string) => {
      writeFileSync(join(folder, `${name}.tpl`), template)
      return `template {\n source = "${folder}/${name}.tpl"\n destination = "${out}/${name}"\n}\n`
    }
    const place = async () => {
      const before = issued()
      const { code, all } = await run()
      t.is(code, 0, all)
      return issued() - before
    }
    writeFileSync(config, block('apiserver.pem', certificate!))
    t.is(await place(), 1)
    t.is(await place(), 0)
    writeFileSync(config, block('apiserver.pem', certificate!) + block('apiserver-key.pem', key!))
    // The key of what lies there is nowhere.
    t.is(await place(), 1)
    t.is(await place(), 0)
  },
)

test.serial('a request of the host is signed, whose key stays there, and left alone the next time', async t => {
  const issuer = await openEmbeddedIssuer(join(root, 'requests.sealed'), { passphrase: 'of this test' })
  await issuer.ensureMount('pki', { maxLeaseTtl: '43800h' })
  await issuer.generateRoot('pki', { commonName: 'k', type: 'internal', ttl: '43800h', keyType: 'ec' })
  await issuer.ensureRole('pki', 'web', { allow_any_name: true, key_type: 'ed25519' })
  const sent: string[] = []
  vault.before = async (method, path, body) => {
    if (!path.startsWith('pki/')) return undefined
    if (method !== 'GET') sent.push(JSON.stringify(body))
    return method === 'GET' ? issuer.read(path) : issuer.write(path, body)
  }
  t.teardown(() => {
    vault.before = undefined
    issuer.close()
  })
  const { out, run } = scene(`
    template {
      contents = <<-END
        {{ with secret "pki/sign/web" (file "OUT/web.csr" | printf "csr=%s") "ttl=100h" }}{{ .Data.certificate }}{{ end }}
        END
      destination = "OUT/web.crt"
    }`)
  const words = [
    'req',
    '-new',
    '-newkey',
    'ed25519',
    '-nodes',
    '-subj',
    '/CN=a.example.org',
    '-addext',
    'subjectAltName=DNS:a.example.org',
  ]
  execFileSync('openssl', [...words, '-keyout', join(out, 'web.key'), '-out', join(out, 'web.csr')], { stdio: 'pipe' })
  const first = await run()
  t.is(first.code, 0, first.all)
  const certificate = readFileSync(join(out, 'web.crt'), 'utf8')
  t.true(new X509Certificate(certificate).checkPrivateKey(createPrivateKey(readFileSync(join(out, 'web.key')))))
  t.is(sent.length, 1)
  t.notRegex(sent[0]!, /PRIVATE KEY/)
  t.is((await run()).code, 0)
  t.is(sent.length, 1)
  t.is(readFileSync(join(out, 'web.crt'), 'utf8'), certificate)
})

withMounts('--shared leaves alone what any of the hosts has, and gives it to those that lack it', async t => {
  const issuer = await openEmbeddedIssuer(join(root, 'shared.sealed'), { passphrase: 'of this test' })
  await issuer.ensureMount('pki', { maxLeaseTtl: '43800h' })
  await issuer.generateRoot('pki', { commonName: 'k', type: 'internal', ttl: '43800h', keyType: 'ec' })
  await issuer.ensureRole('pki', 'web', { allow_any_name: true, key_type: 'ec', key_bits: 256 })
  const issued = answeredBy(t, issuer, 'pki/')
  const { folder, out, on } = scene(`
    template {
      contents = <<-END
        {{ with secret "pki/issue/web" "common_name=a.example.org" "ttl=100h" }}{{ .Data.certificate }}
        {{ .Data.private_key }}{{ end }}
        END
      destination = "OUT/web.pem"
      perms = "0600"
    }`)
  // Where one becomes somebody else, another folder lies over this one: as if it was another machine.
  const [programs, other] = ['programs', 'of-b'].map(name => join(folder, name)) as [string, string]
  for (const path of [programs, other]) mkdirSync(path)
  const sudo = `#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done; shift\nexec ${withOwnMounts.join(' ')} sh -ec 'mount --bind ${other} ${out}; exec "$@"' sh "$@"\n`
  writeFileSync(join(programs, 'sudo'), sudo, { mode: 0o755 })
  const own = `ansible_connection=local rekey_directory=${join(folder, 'on-hosts')}`
  writeFileSync(join(folder, 'hosts'), `a ${own}\nb ${own} ansible_become=true ansible_become_user=daemon\n`)
  const environment = { PATH: `${programs}:${process.env['PATH']}` }
  const place = async (pattern: string, ...more: string[]) => {
    const before = issued()
    const { code, all } = await on(pattern, more, { environment })
    t.is(code, 0, all)
    return issued() - before
  }
  t.is(await place('b'), 1)
  const ofB = readFileSync(join(other, 'web.pem'), 'utf8')
  t.deepEqual(readdirSync(out), [])
  t.is(await place('all', '--shared'), 0)
  t.is(readFileSync(join(out, 'web.pem'), 'utf8'), ofB)
  t.is(readFileSync(join(other, 'web.pem'), 'utf8'), ofB)
})

const faults: [title: string, second: string, message: RegExp, code: number][] = [
  [
    'a secret that is not there',
    '"{{ with secret \\"secret/none\\" }}{{ end }}"\n destination = "OUT/b"',
    /no secret exists at secret\/none/,
    2,
  ],
  [
    'a destination that is a folder',
    '"x"\n destination = "OUT/folder"',
    /folder is a folder, and a file shall be there/,
    2,
  ],
  [
    'a folder that is missing',
    '"x"\n destination = "OUT/none/b"\n create_dest_dirs = false',
    /its folder is missing/,
    2,
  ],
  [
    'an owner that is not known',
    '"x"\n destination = "OUT/b"\n user = "nobody-here"',
    /there is no user "nobody-here"/,
    2,
  ],
  [
    'a template that invokes itself',
    '"{{ define \\"a\\" }}{{ template \\"a\\" }}{{ end }}{{ template \\"a\\" }}"\n destination = "OUT/b"',
    /template "a" invokes itself without end/,
    2,
  ],
  [
    'a key that belongs to no certificate',
    '"{{ with secret \\"pki_k8s/issue/kubernetes\\" \\"common_name=a.example.org\\" }}{{ .Data.certificate }}{{ end }}\\nKEY"\n destination = "OUT/b"',
    /belongs to none of the certificates/,
    2,
  ],
  ['delimiters that do not close', '"{{ x"\n destination = "OUT/b"', /config\.hcl:\d+ \(contents\):1:\d+: /, 2],
]
for (const [title, second, message, code] of faults) {
  test.serial(`nothing is changed on the host by ${title}`, async t => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const key = (privateKey.export({ type: 'pkcs8', format: 'pem' }) as string).replaceAll('\n', '\\n')
    const configuration = `template {\n contents = "one"\n destination = "OUT/a"\n command = "touch OUT/ran"\n}\ntemplate {\n contents = ${second.replace('KEY', key)}\n}\n`
    const { out, run } = scene(configuration)
    mkdirSync(join(out, 'folder'))
    const result = await run()
    t.is(result.code, code, result.all)
    t.regex(result.all.replaceAll('\n', ' '), message)
    t.deepEqual(readdirSync(out, { recursive: true }), ['folder'])
  })
}

const issuing =
  '"{{ with secret \\"pki/issue/web\\" \\"common_name=a.example.org\\" \\"alt_names=b.example.org\\" \\"ttl=1000h\\" }}' +
  '{{ .Data.certificate }}{{ end }}"\n destination = "OUT/b"'
const says =
  (status: number, ...errors: string[]) =>
  (response: ServerResponse) =>
    response.writeHead(status).end(JSON.stringify({ errors }))
const gives = (certificate: string) => (response: ServerResponse) =>
  response.writeHead(200).end(JSON.stringify({ data: { certificate } }))

/** What Vault does once the first template has had its secret, and how the second one is told of it. */
const vaultFaults: [title: string, answer: (response: ServerResponse) => void, message: RegExp][] = [
  ['sealed in the middle', says(503, 'Vault is sealed'), /1:9: Vault at http:\S+ is sealed/],
  ['gone in the middle', response => response.destroy(), /1:9: Vault at \S+ is unreachable \(ECONNRESET\)/],
  ['without an answer', () => undefined, /1:9: Vault at \S+ did not answer POST pki\/issue\/web within 2 s/],
  [
    'with an expired token',
    says(403, 'permission denied', 'invalid token'),
    /1:9: Vault does not know the token: it exp/,
  ],
  [
    'denying one path',
    says(403, 'permission denied'),
    /1:9: Vault: permission denied for update on pki\/issue\/web .*path "pki\/issue\/web" { capabilities = \["update"\] }/,
  ],
  [
    'with a role that forbids the SAN',
    says(400, 'subject alternate name b.example.org not allowed by this role'),
    /1:9: The role refuses pki\/issue\/web: subject alternate name b\.example\.org not allowed/,
  ],
  ['shortening the TTL', gives(short.pem), /1:9: pki\/issue\/web .*shorter than the ttl of 1000h that was asked/],
  ['with a certificate not valid yet', gives(early.pem), /out\/b: the certificate .* holds from .*, not now/],
  [
    'cutting its answer short',
    response => {
      response.writeHead(200, { 'Content-Length': '500' })
      response.write('{"data":{"private_key":"', () => setTimeout(() => response.destroy(), 50))
    },
    /1:9: Vault at \S+ the answer to POST pki\/issue\/web was cut short/,
  ],
  [
    'redirecting to another host',
    response => response.writeHead(307, { Location: 'http://203.0.113.1/v1/pki/issue/web' }).end(),
    /1:9: Vault at \S+ redirects to http:\/\/203\.0\.113\.1, and the token is not sent there/,
  ],
]
for (const [title, answer, message] of vaultFaults) {
  test.serial(`nothing is changed on the host by a Vault ${title}`, async t => {
    const first = `"${secretTemplate}"\n destination = "OUT/a"\n command = "touch OUT/ran"`
    const { out, on } = scene(`template {\n contents = ${first}\n}\ntemplate {\n contents = ${issuing}\n}\n`)
    writeFileSync(join(out, 'a'), 'as it was')
    vault.takeOver = (path, response) => {
      if (path !== 'pki/issue/web') return false
      answer(response)
      return true
    }
    t.teardown(() => {
      vault.takeOver = undefined
    })
    const environment = { VAULT_MAX_RETRIES: '0', VAULT_CLIENT_TIMEOUT: '2' }
    const { code, all } = await on('a', [], { environment })
    t.is(code, 2, all)
    t.regex(all.replaceAll(/\s+/g, ' '), message)
    t.deepEqual(readdirSync(out), ['a'])
    t.is(readFileSync(join(out, 'a'), 'utf8'), 'as it was')
  })
}

test.serial('a Vault that is restarted in the middle is asked again', async t => {
  const { pem } = await issue({ ...names, notAfter: inHours(1000) })
  const { out, run } = scene(`template {\n contents = ${issuing}\n}\n`)
  let times = 0
  vault.takeOver = (path, response) => {
    if (path !== 'pki/issue/web') return false
    if (++times < 3) response.destroy()
    else gives(pem)(response)
    return true
  }
  t.teardown(() => {
    vault.takeOver = undefined
  })
  const { code, all } = await run()
  t.is(code, 0, all)
  t.is(times, 3)
  t.is(readFileSync(join(out, 'b'), 'utf8'), pem)
})

test.serial('nothing is changed on the host without the right to give files away', async t => {
  const isRoot = process.getuid?.() === 0
  const user = isRoot ? 'daemon' : 'root'
  const { out, on } = scene(
    `template {\n contents = "x"\n destination = "OUT/a"\n command = "touch OUT/ran"\n}\ntemplate {\n contents = "y"\n destination = "OUT/b"\n user = "${user}"\n}\n`,
  )
  // Root loses this one right, everyone else lacks it.
  const { code, all } = await on('a', [], { wrapper: isRoot ? ['setpriv', '--bounding-set', '-chown'] : [] })
  t.is(code, 2, all)
  t.regex(
    all.replaceAll(/\s+/g, ' '),
    /a: (the files could not be staged: .*Operation not permitted|only root can give .* to root)/,
  )
  t.deepEqual(readdirSync(out), [])
})

withMounts('nothing is changed on the host by a file of a set that can not be replaced', async t => {
  const block = (name: string) =>
    `template {\n contents = "new"\n destination = "OUT/${name}"\n command = "touch OUT/ran"\n}\n`
  const { out, on } = scene(['a', 'fresh', 'mounted', 'z'].map(block).join(''))
  const before = { a: 'as it was', mounted: 'as it was', z: 'as it was' }
  for (const [name, text] of Object.entries(before)) writeFileSync(join(out, name), text)
  const path = join(out, 'mounted')
  // Nothing can be renamed over what is mounted.
  const wrapper = [...withOwnMounts, 'sh', '-ec', `mount --bind ${path} ${path}; exec "$@"`, 'sh']
  const { code, all } = await on('a', [], { wrapper })
  t.is(code, 2, all)
  t.regex(all.replaceAll(/\s+/g, ' '), /the staged files could not be put in place: .*mounted/)
  const held = readdirSync(out).map(name => [name, readFileSync(join(out, name), 'utf8')])
  t.deepEqual(Object.fromEntries(held), before)
})

test.serial('--shared asks once for all hosts, and every host gets the same', async t => {
  const { pem } = await issue({ ...names, notAfter: inHours(1000) })
  const perHost = issuing.replace(
    '{{ .Data.certificate }}',
    '{{ .Data.certificate | writeToFile (printf \\"OUT/%s.crt\\" $.Host.Name) \\"\\" \\"\\" \\"0644\\" }}',
  )
  const ask = async (...more: string[]) => {
    const { out, on } = scene(`template {\n contents = ${perHost}\n}\n`)
    let times = 0
    vault.takeOver = (path, response) => {
      if (path !== 'pki/issue/web') return false
      times++
      gives(pem)(response)
      return true
    }
    // Both hosts are this machine, and would stage the same file.
    const { code, all } = await on('all', ['--forks', '1', ...more])
    t.is(code, 0, all)
    t.deepEqual(
      ['a.crt', 'b.crt'].map(name => readFileSync(join(out, name), 'utf8')),
      [pem, pem],
    )
    return times
  }
  t.teardown(() => {
    vault.takeOver = undefined
  })
  t.is(await ask('--shared'), 1)
  t.is(await ask(), 2)
})

test.serial('a folder of configurations is one, and settings without use are named once, with their place', async t => {
  const { folder, out, on } = scene('')
  const configs = join(folder, 'configs')
  mkdirSync(configs)
  const block = (name: string) =>
    `template {\n contents = "${name}"\n destination = "${out}/${name}"\n wait { min = "2s" }\n}\n`
  writeFileSync(
    join(configs, '10.hcl'),
    `consul {\n address = "127.0.0.1:8500"\n}\nsyslog {\n enabled = true\n}\n${block('a')}`,
  )
  writeFileSync(
    join(configs, '20.json'),
    `{ "syslog": { "enabled": true }, "pid_file": "/x", "template": { "contents": "b", "destination": "${out}/b" } }`,
  )
  writeFileSync(join(configs, '30'), block('c'))
  const { code, all, stderr } = await on('a', ['-c', configs])
  t.is(code, 0, all)
  t.deepEqual(readdirSync(out), ['a', 'b', 'c'])
  const [named, ...more] = stderr.split('\n').filter(line => line.startsWith('Settings without a use here: '))
  const places = ['consul (10.hcl:1)', 'syslog (10.hcl:4)', 'pid_file (20.json:1)', 'template.wait (10.hcl:7)']
  t.deepEqual(named!.slice('Settings without a use here: '.length).replaceAll(`${configs}/`, '').split(', '), places)
  t.deepEqual(more, [])
})

test.serial('a configuration that can not be read is misuse, with file and line', async t => {
  const { run, config } = scene('template {\n contents = "x\n}\n')
  const { code, all } = await run()
  t.is(code, 1)
  t.true(all.includes(`${config}:2:13: the string does not end`))
})

test.serial('what no template wrote is not appended to: every rendering would add to it', async t => {
  const { out, run } = scene(
    'template {\n contents = "{{ \\"x\\" | writeToFile \\"OUT/w\\" \\"\\" \\"\\" \\"0644\\" \\"append\\" }}"\n destination = "OUT/a"\n}\n',
  )
  const { code, all } = await run()
  t.is(code, 2)
  t.regex(
    all.replaceAll(/\s+/g, ' '),
    /config\.hcl:1: writeToFile appends to .*\/out\/w, which no template wrote before/,
  )
  t.deepEqual(readdirSync(out), [])
})

test.serial('a command that fails says that the files are in place', async t => {
  const { out, run } = scene(
    'template {\n contents = "x"\n destination = "OUT/a"\n command = "echo no >&2; exit 3"\n}\n',
  )
  const { code, all } = await run()
  t.is(code, 2)
  t.regex(
    all.replaceAll('\n', ' '),
    /the files are in place, and the command of .*config\.hcl:1 failed \(exit status 3\): no/,
  )
  t.is(readFileSync(join(out, 'a'), 'utf8'), 'x')
})

test.serial('a command that failed is run by the next run, although no file changes then, and once', async t => {
  const { out, run } = scene(`
    template {
      contents = "x"
      destination = "OUT/a"
      command = "echo ran >> OUT/ran; test -e OUT/works"
    }
    template {
      contents = "y"
      destination = "OUT/b"
      command = "echo other >> OUT/ran"
    }`)
  const first = await run()
  t.is(first.code, 2, first.all)
  t.regex(first.all.replaceAll(/\s+/g, ' '), /The next run tries the command again/)
  writeFileSync(join(out, 'works'), '')
  const second = await run()
  t.is(second.code, 0, second.all)
  t.is(readFileSync(join(out, 'ran'), 'utf8'), 'ran\nran\nother\n')
  t.is((await run()).code, 0)
  t.is(readFileSync(join(out, 'ran'), 'utf8'), 'ran\nran\nother\n')
})

test.serial('a set of hundreds of files is placed as one, whatever they are called', async t => {
  const { out, config, run } = scene('')
  // Long enough that a script about all of them is no argument of a command any more.
  const folder = join(out, `a folder, it's \\ odd${' and long'.repeat(10)}`)
  const contents = `{{ range loop 400 }}{{ "text" | writeToFile (printf ${JSON.stringify(`${folder}/%d.pem`)} .) "" "" "0600" }}{{ end }}done`
  const destination = JSON.stringify(`${folder}/all`)
  writeFileSync(config, `template {\n contents = ${JSON.stringify(contents)}\n destination = ${destination}\n}\n`)
  const { code, all } = await run()
  t.is(code, 0, all)
  t.is(readFileSync(join(folder, 'all'), 'utf8'), 'done')
  t.is(readFileSync(join(folder, '399.pem'), 'utf8'), 'text')
  t.is(readdirSync(folder).length, 401)
})

test.serial('a command runs when a file changed that its template wrote beside the destination', async t => {
  const { out, config, run } = scene('')
  const block = (text: string) =>
    `template {\n contents = "{{ \\"${text}\\" | writeToFile \\"${out}/w\\" \\"\\" \\"\\" \\"0600\\" }}same"\n destination = "${out}/a"\n command = "cat ${out}/w >> ${out}/ran"\n}\n`
  for (const text of ['1', '2']) {
    writeFileSync(config, block(text))
    const { code, all } = await run()
    t.is(code, 0, all)
  }
  t.is(readFileSync(join(out, 'ran'), 'utf8'), '12')
})

test.serial("a command's environment and time-out are those of its exec block", async t => {
  const { out, run } = scene(`
    template {
      contents = "x"
      destination = "OUT/a"
      exec {
        command = ["sh", "-c", "printf %s \\"$WHO\\" > OUT/who"]
        env {
          custom = ["WHO=it's me"]
        }
      }
    }
    template {
      contents = "y"
      destination = "OUT/b"
      command = "sleep 100"
      command_timeout = "300ms"
    }`)
  const started = Date.now()
  const { code, all } = await run()
  t.is(code, 2, all)
  t.true(Date.now() - started < 90_000)
  t.regex(all.replaceAll(/\s+/g, ' '), /the command of \S+config\.hcl:12 did not end within 0\.3 s and was ended/)
  t.is(readFileSync(join(out, 'who'), 'utf8'), "it's me")
})
