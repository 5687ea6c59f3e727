// What is behind KMS plugins: asked over its socket as an API server does, its files, and what a token lists.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { attributeOf, withKeys } from '../../../lib/encryption/kms/attributes.ts'
import { lastAsked } from '../../../lib/encryption/kms/log.ts'
import { oldIsLogged, ownFiles, sameKey, unaskedFor, variables } from '../../../lib/encryption/kms/plugin.ts'
import { tryPlugin } from '../../../lib/encryption/kms/socket.ts'
import { keysIn } from '../../../lib/encryption/kms/token.ts'
import { locatedYaml } from '../../../lib/kubernetes/located-yaml.ts'
import { messageOf } from '../../../lib/operations/grpc/protobuf.ts'
import { createRenderer } from '../../../lib/template/render.ts'
import { localHost } from '../../kubernetes/components/_host.ts'
import { type Answers, type Fields, pluginAt } from '../_plugin.ts'

const status =
  (keyId = 'key-1', healthz = 'ok', version = 'v2') =>
  (): Fields => [
    [1, version],
    [2, healthz],
    [3, keyId],
  ]
const reversed = (bytes: Uint8Array) => Buffer.from(bytes).reverse()
const annotation = messageOf([
  [1, 'version.example.com'],
  [2, '7'],
])
/** What it encrypts it can decrypt only with the id and the annotation that it gave. */
const working: Answers = {
  Status: status(),
  Encrypt: asked => [
    [1, reversed(asked.get(1)!)],
    [2, 'key-1'],
    [3, annotation],
  ],
  Decrypt: asked =>
    asked.get(3)?.toString() === 'key-1' && asked.get(4)?.equals(annotation)
      ? [[1, reversed(asked.get(1)!)]]
      : 'another%20key',
}

test('a plugin is tried over its socket, with all that it gave of what it had encrypted', async t => {
  const { session, folder } = await localHost(t)
  const socket = join(folder, 'plugin.sock')
  await pluginAt(t, socket, working)
  t.is(await tryPlugin(session, `unix://${socket}`), 'key-1')
})

const faults: Record<string, [answers: Partial<Answers>, RegExp]> = {
  'is not well': [{ Status: status('key-1', 'token lost') }, /of its health: 'token lost'/],
  'is of v1': [{ Status: status('key-1', 'ok', 'v1beta1') }, /version 'v1beta1'/],
  'has no key id': [{ Status: status('') }, /a key id of 0 bytes/],
  'encrypts with another key than it says': [{ Status: status('key-0') }, /key is 'key-0', and encrypts with 'key-1'/],
  'refuses to encrypt': [{ Encrypt: () => 'permission%20denied' }, /refuses Encrypt: 'permission denied'/],
  'decrypts something else': [{ Decrypt: () => [[1, 'something']] }, /does not decrypt what it has encrypted/],
}
for (const [name, [answers, expected]] of Object.entries(faults))
  test(`a plugin that ${name} is told so`, async t => {
    const { session, folder } = await localHost(t)
    const socket = join(folder, 'plugin.sock')
    await pluginAt(t, socket, { ...working, ...(answers as Answers) })
    const error = await t.throwsAsync(tryPlugin(session, `unix://${socket}`))
    t.like(error, { code: 'encryption.plugin', host: 'm1' })
    t.regex(error!.message, expected)
  })

test('where nobody is at the socket, that is said', async t => {
  const { session, folder } = await localHost(t)
  const nobody = await t.throwsAsync(tryPlugin(session, `unix://${folder}/none.sock`))
  t.regex(nobody!.message, /can not be asked: curl: /)
})

test('keys of a plugin’s file are named anew, and all else stays', t => {
  const text = '# mine\r\nToken = kms\r\n  Primary_key=old   # by label\r\nPin_file = /etc/pin\r\n'
  const plain = '# mine\nPrimary_key = old\nToken = kms\n'
  t.is(attributeOf(plain, 'f', 'Primary_key'), 'old')
  t.is(attributeOf(plain, 'f', 'Secondary_key'), undefined)
  const added = withKeys(plain, 'f', 'old', 'new')
  t.is(added, '# mine\nPrimary_key = old\nSecondary_key = new\nToken = kms\n')
  t.is(withKeys(added, 'f', 'new', 'old'), '# mine\nPrimary_key = new\nSecondary_key = old\nToken = kms\n')
  t.is(
    withKeys('Primary_key = a\nSecondary_key =\n', 'f', 'a', '$&'),
    'Primary_key = a\nSecondary_key =$&\n',
    'an empty one',
  )
  t.is(
    withKeys(text.replace('   # by label', ''), 'f', 'old', 'new'),
    text.replace('   # by label\r\n', '\r\n  Secondary_key=new\r\n'),
  )
  t.throws(() => withKeys('Token = kms\n', 'f', 'a', 'b'), { message: /no Primary_key/ })
  t.throws(() => attributeOf('Primary_key = a\nPrimary_key = b\n', 'f', 'Primary_key'), { message: /2 lines/ })
})

test('keys of a token are told by label and id', t => {
  const listing = `Secret Key Object; AES length 32
  label:      kek 1
  ID:         99eca07025d34dea928e8620f6790d2b
  Usage:      encrypt, decrypt
Public Key Object; RSA 2048 bits
  label:      kek 1
  ID:         01
Secret Key Object; AES length 32
  Usage:      encrypt
`
  t.deepEqual(keysIn(listing), [
    { label: 'kek 1', id: '99eca07025d34dea928e8620f6790d2b' },
    { label: '', id: '' },
  ])
})

test('the last request in the log of a unit is told with its age, and none where there is none', async t => {
  const { session, folder } = await localHost(t)
  const now = Date.now() / 1_000
  const lines = [
    `${now - 1_000}.5 m1 kms[1]: status key_id=a`,
    `${now - 10} m1 kms[1]: decrypt key_id=a`,
    `${now} m1 kms[1]: idle`,
  ]
  const log = join(folder, 'log')
  writeFileSync(log, `${lines.join('\n')}\n`)
  writeFileSync(join(folder, 'bin/journalctl'), `#!/bin/sh\ncat ${log}\n`, { mode: 0o755 })
  const asked = (pattern: string) => lastAsked(session, 'kms-a.service', pattern)
  const last = await asked('STATUS|encrypt|decrypt')
  t.regex(last!.line, /decrypt key_id=a$/)
  t.true(last!.ago >= 10 && last!.ago < 900, `${last!.ago}`)
  t.is(await asked('nothing'), undefined)
  writeFileSync(join(folder, 'bin/journalctl'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
  await t.throwsAsync(asked('status'), undefined, 'a log that can not be read is not one without requests')
})

test('an old plugin whose log tells of no request while it is still asked is found before it is dropped', async t => {
  const { session, folder } = await localHost(t)
  const log = (ago: number) =>
    writeFileSync(
      join(folder, 'bin/journalctl'),
      `#!/bin/sh\n[ "$1" = _SYSTEMD_UNIT=old.service ] && echo '${(Date.now() / 1_000 - ago).toFixed(3)} m1 kms[1]: encryption is ready'\n`,
      { mode: 0o755 },
    )
  const ctx = {
    ...session,
    vars: { kms_old: 'old.service', kms_asked: 'status|encrypt|decrypt' },
    check: false,
  } as never
  log(90_000)
  t.like(await t.throwsAsync(async () => oldIsLogged.run(ctx)), { code: 'encryption.silent-log' })
  log(10)
  await oldIsLogged.run(ctx)
})

test('the old plugin is taken for unasked by a line of its log that is old enough, and by nothing else', async t => {
  const { session, folder } = await localHost(t)
  const log = (script: string) =>
    writeFileSync(join(folder, 'bin/journalctl'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  const asked = (ago: string) => `echo "$(($(date +%s) - ${ago})).0 m1 kms[1]: status key_id=a"`
  const ctx = {
    ...session,
    ...{ vars: { kms_old: 'old.service', kms_asked: 'status' }, check: false, log: () => {} },
    signal: new AbortController().signal,
  } as never
  const gate = async () => unaskedFor(75, 50).run(ctx)
  log(asked('100'))
  const { ago } = (await gate()) as { ago: number }
  t.true(ago >= 75)
  log(asked('30'))
  const error = await t.throwsAsync(gate())
  t.like(error, { code: 'encryption.still-asked', host: 'm1' })
  t.regex(error!.message, /status key_id=a/)
  log(`[ -e ${folder}/again ] || ${asked('100')}; touch ${folder}/again`)
  t.like(await t.throwsAsync(gate()), { code: 'encryption.still-asked' }, 'other lines pushed it out')
  log('echo "1.0 m1 kms[1]: started"')
  t.like(await t.throwsAsync(gate()), { code: 'encryption.silent-log' })
})

test('what would take the place of the old plugin’s own files is refused before it is placed', async t => {
  const { session, folder } = await localHost(t)
  const manifest = join(folder, 'old.yaml')
  const taken = async (old: string, ...all: string[]) => {
    const vars = { kms_old: old, kms_files: all.map(dest => ({ dest })) }
    try {
      await ownFiles.run({ ...session, vars } as never)
      return []
    } catch (error) {
      t.like(error, { code: 'encryption.old-plugins-files', host: 'm1' })
      return (error as Error).message.split(': ')[1]!.split(', ')
    }
  }
  writeFileSync(
    join(folder, 'unit'),
    `# /usr/lib/systemd/system/old.service
[Service]
EnvironmentFile=-/etc/default/old
ExecStart=/usr/bin/kms --listen=unix:///run/old.sock --config="/etc/kms/old.conf"
`,
  )
  const own = ['/etc/kms/new.conf', '/etc/kms/old.conf.d/new', '/etc/systemd/system/new.service']
  t.deepEqual(await taken('old.service', ...own), [])
  const theirs = [
    '/etc/kms/old.conf',
    '/etc/default/old',
    '/etc/systemd/system/old.service',
    '/run/systemd/system/old.service.d/a',
  ]
  t.deepEqual(await taken('old.service', ...own, ...theirs), theirs)
  t.deepEqual(await taken('old.service', '/etc//kms/./old.conf'), ['/etc/kms/old.conf'])
  writeFileSync(
    manifest,
    'spec:\n  containers:\n    - args: [--config=/etc/kms/old.conf]\n  volumes: [{ hostPath: { path: /etc/kms } }]\n',
  )
  t.deepEqual(await taken(manifest, ...own), [])
  t.deepEqual(await taken(manifest, ...own, manifest, '/etc/kms/old.conf'), [manifest, '/etc/kms/old.conf'])
})

test('what needs the old plugin is not asked again once it may be gone', t => {
  t.true(sameKey.remember)
  t.true(ownFiles.remember)
  t.true(unaskedFor(75).remember)
})

test('how long API servers wait for a plugin is a duration that they take', t => {
  for (const text of ['3s', '500ms', '1m30s', '1.5s']) t.true(variables.kms_timeout.safeParse(text).success, text)
  for (const text of ['3', '-1s', 'soon', '0s', '']) t.false(variables.kms_timeout.safeParse(text).success, text)
})

test('the log of a pod is found by the name in its manifest', async t => {
  const { session, folder } = await localHost(t)
  const manifest = join(folder, 'kms.yaml')
  writeFileSync(manifest, 'metadata:\n  name: kms-a\n  namespace: kube-system\n')
  writeFileSync(
    join(folder, 'bin/find'),
    `#!/bin/sh\n[ "$3" = '/var/log/pods/kube-system_kms-a-node-1_*/*/*.log' ] && echo '2026-01-02T03:04:05.5Z stdout F status key_id=a'; true\n`,
    { mode: 0o755 },
  )
  t.regex((await lastAsked(session, manifest, 'status', 'node-1'))!.line, /status key_id=a$/)
  t.is(await lastAsked(session, manifest, 'status'), undefined, 'of the pod of another node, as the host is called')
  writeFileSync(manifest, 'metadata:\n  name: kms-a$(x)\n')
  t.like(await t.throwsAsync(lastAsked(session, manifest, 'status')), { code: 'component.log' })
})

test('templates of a plugin say what the inventory has for it, and nothing of what it has not', async t => {
  const renderer = createRenderer({ secrets: async () => undefined })
  const render = async (name: string, data: object) => {
    const path = join(import.meta.dirname, '../../../templates/kms', name)
    return (await renderer.render(readFileSync(path, 'utf8'), { name, data: { ...data } })).output
  }
  const kms = {
    kms_name: 'second',
    kms_endpoint: 'unix:///run/second.sock',
    kms_program: '/usr/bin/kms',
    kms_config: '/etc/second',
  }
  t.regex(
    await render('plugin.service.tpl', { ...kms, kms_health_port: 8788 }),
    /--config=\/etc\/second --healthz-port=8788\n/,
  )
  t.regex(await render('plugin.service.tpl', kms), /--config=\/etc\/second\nRestart/)
  const pod = {
    ...kms,
    kms_image: 'kms:1',
    kms_arguments: ['--listen=unix:///run/second.sock'],
    kms_folders: ['/run/kms', '/etc/kms'],
  }
  const yaml = await render('plugin.yaml.tpl', { ...pod, kms_health_port: 8788 })
  const { value } = locatedYaml(yaml, 'f') as {
    value: {
      spec: { containers: [{ args: string[]; volumeMounts: object[]; livenessProbe?: object }]; volumes: object[] }
    }
  }
  t.deepEqual(value.spec.containers[0].args, ['--listen=unix:///run/second.sock'])
  t.is(value.spec.containers[0].volumeMounts.length, 2)
  t.is(value.spec.volumes.length, 2)
  t.notRegex(await render('plugin.yaml.tpl', pod), /livenessProbe/)
  const vault = {
    kms_vault_address: 'https://v',
    kms_vault_token_file: '/t',
    kms_transit_mount: 'transit',
    kms_transit_key: 'b',
  }
  t.notRegex(await render('vault.conf.tpl', vault), /Vault_ca/)
  t.regex(await render('vault.conf.tpl', { ...vault, kms_vault_ca: '/ca' }), /\nVault_ca = \/ca\n/)
})
