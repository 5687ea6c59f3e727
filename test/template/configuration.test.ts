// Configuration files: read as consul-template reads them, rendered to the same files, refused with file, line and column.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { RekeyError } from '../../lib/errors.ts'
import { vaultLists, vaultSecrets } from '../../lib/pki/vault/secrets.ts'
import { connectVault } from '../../lib/pki/vault/vault.ts'
import { parseConfiguration, readConfiguration } from '../../lib/template/configuration.ts'
import { createRenderer } from '../../lib/template/render.ts'
import { dryText, renderConfiguration } from '../../lib/template/render-configuration.ts'
import { startCannedVault } from './_canned-vault.ts'
import { type ConfigurationCase, readConfigurationCases } from './_cases.ts'

const vault = await startCannedVault()
const client = await connectVault({ address: vault.address, token: 'a-token' })
const read = vaultSecrets(client)
const folder = mkdtempSync(join(tmpdir(), 'rekey-configuration-'))
test.after.always(() => {
  client.close()
  vault.stop()
  rmSync(folder, { recursive: true, force: true })
})

const newRenderer = () =>
  createRenderer({
    // Issues past the checks: the canned Vault answers everyone with the same certificate.
    secrets: async (path, data) => (data && path.includes('/issue/') ? client.write(path, data) : read(path, data)),
    list: vaultLists(client),
    readFile: path => readFile(path, 'utf8'),
  })

for (const one of readConfigurationCases()) {
  test.serial(`configuration: ${one.title}`, async t => {
    if (one.error) {
      const error = t.throws(() => parseConfiguration(one.text, 'config'), { name: 'RekeyError' })
      t.is(error.message.slice(0, one.error.length), one.error)
      return
    }
    const configuration = parseConfiguration(one.text, 'config')
    const render = renderConfiguration(configuration, newRenderer(), { readSource: async path => one.inputs![path]! })
    if (one.failure) {
      const error = await t.throwsAsync(render, { name: 'RekeyError' })
      t.regex(error.message, /^config:\d+ \(contents\):\d+:\d+: /)
      return
    }
    const rendered = await render
    const files = rendered.map(({ block, bytes }) => {
      return [block.destination, { content: bytes.toString(), mode: (block.permissions ?? 0o644).toString(8) }]
    })
    t.deepEqual(Object.fromEntries(files), withoutCommand(one))
    if (one.command) t.deepEqual(configuration.templates[0]!.command, one.command)
    t.deepEqual(
      configuration.ignored.map(name => name.split(' (')[0]),
      one.ignored ?? [],
    )
  })
}

/** The files that consul-template rendered, without those that a command made of them. */
function withoutCommand({ expected, command }: ConfigurationCase) {
  return Object.fromEntries(Object.entries(expected!).filter(([name]) => !command || name === 'out'))
}

test.serial('every file of a folder is read, in the order of names, and settings without use are named once', t => {
  const conf = join(folder, 'conf.d')
  mkdirSync(join(conf, 'more'), { recursive: true })
  writeFileSync(join(conf, 'b.hcl'), 'vault {\n address = "https://b"\n token = "t"\n}\nsyslog {\n}\n')
  writeFileSync(
    join(conf, 'a.hcl'),
    'vault {\n address = "https://a"\n}\ntemplate {\n contents = "1"\n destination = "1"\n}\n',
  )
  writeFileSync(join(conf, 'more/c.json'), '{"syslog": {}, "template": {"contents": "2", "destination": "2"}}')
  const { templates, vault, ignored } = readConfiguration(conf)
  t.deepEqual(
    templates.map(one => [one.destination, one.place]),
    [
      ['1', `${join(conf, 'a.hcl')}:4`],
      ['2', `${join(conf, 'more/c.json')}:1`],
    ],
  )
  t.deepEqual(vault, { address: 'https://b', token: 't' })
  t.deepEqual(ignored, [`syslog (${join(conf, 'b.hcl')}:5)`])
})

test.serial('links to files are read, as in a mounted ConfigMap, and delimiters hold for all files', t => {
  const mounted = join(folder, 'mounted')
  mkdirSync(join(mounted, '..2026_11_21'), { recursive: true })
  const block = (name: string) => `template {\n contents = "x"\n destination = "${name}"\n}\n`
  writeFileSync(join(mounted, '..2026_11_21/a.hcl'), block('a'))
  writeFileSync(join(mounted, 'b.hcl'), `${block('b')}default_delimiters {\n left = "<<"\n right = ">>"\n}\n`)
  symlinkSync('..2026_11_21', join(mounted, '..data'))
  symlinkSync('..data/a.hcl', join(mounted, 'a.hcl'))
  t.deepEqual(
    readConfiguration(mounted).templates.map(one => [one.place, one.destination, one.delimiters?.left]),
    ['a', 'b'].map(name => [`${join(mounted, `${name}.hcl`)}:1`, name, '<<']),
  )
})

test.serial('a configuration that is not there is named', t => {
  const missing = join(folder, 'none')
  t.throws(() => readConfiguration(missing), { message: `${missing}: the configuration can't be read (ENOENT)` })
  const mixed = join(folder, 'mixed')
  mkdirSync(mixed)
  writeFileSync(join(mixed, 'a.tpl'), '{{ with secret "a/b" }}{{ end }}')
  const notOne = t.throws(() => readConfiguration(mixed), { instanceOf: RekeyError, message: /^\S+a\.tpl:1:2: / })
  t.regex(notOne.hint!, /Every file in \S+mixed is read as configuration, .*: templates lie elsewhere/)
  t.is(t.throws(() => readConfiguration(join(mixed, 'a.tpl')), { instanceOf: RekeyError }).hint, undefined)
  const empty = join(folder, 'empty')
  mkdirSync(empty)
  t.throws(() => readConfiguration(empty), { message: `${empty}: there is no configuration file in this folder` })
})

test.serial('a vault block says where Vault is, what to trust, and who asks', t => {
  const text =
    'vault {\n  address = "https://v:8200"\n  renew_token = false\n  ssl {\n    ca_cert = "/ca.pem"\n    cert = "/both.pem"\n    verify = false\n  }\n  k8s_auth_role_name = "pods"\n}\n'
  const { vault, ignored } = parseConfiguration(text, 'a.hcl')
  t.like(vault, { address: 'https://v:8200', caFile: '/ca.pem', skipVerify: true })
  t.like(vault, { clientCertificateFile: '/both.pem', clientKeyFile: '/both.pem' })
  t.is(vault.kubernetes?.role, 'pods')
  t.deepEqual(ignored, ['vault.renew_token (a.hcl:3)'])
})

test.serial('the CAs may stand in the vault block itself, and the token may be wrapped', t => {
  const text = 'vault {\n token = "w"\n unwrap_token = true\n ssl {\n  ca_cert_bytes = "PEM"\n }\n}\n'
  const { vault, ignored } = parseConfiguration(text, 'a.hcl')
  t.deepEqual(vault, { authorities: 'PEM', token: 'w', unwrapToken: true })
  t.deepEqual(ignored, [])
})

test.serial('one template that fails keeps all of them from being placed', async t => {
  const text =
    'template {\n contents = "x"\n destination = "a"\n}\ntemplate {\n contents = "{{ with secret \\"secret/none\\" }}{{ end }}"\n destination = "b"\n}\n'
  const configuration = parseConfiguration(text, 'a.hcl')
  const render = renderConfiguration(configuration, newRenderer(), { readSource: async () => '' })
  await t.throwsAsync(render, { message: 'a.hcl:5 (contents):1:9: no secret exists at secret/none' })
})

test.serial('two templates for one destination are refused', async t => {
  const text =
    'template {\n contents = "x"\n destination = "a"\n}\ntemplate {\n contents = "y"\n destination = "a"\n}\n'
  const render = renderConfiguration(parseConfiguration(text, 'a.hcl'), newRenderer(), { readSource: async () => '' })
  await t.throwsAsync(render, { message: 'a.hcl:5: a is the destination of the template at a.hcl:1 too' })
})

test.serial('two templates for one destination are refused however its path is spelled', async t => {
  const block = (destination: string) => `template {\n contents = "x"\n destination = "${destination}"\n}\n`
  for (const other of ['/x/o/./s2', '/x//o/s2', '/x/o/../o/s2']) {
    const configuration = parseConfiguration(block('/x/o/s2') + block(other), 'a.hcl')
    const render = renderConfiguration(configuration, newRenderer(), { readSource: async () => '' })
    await t.throwsAsync(render, { message: `a.hcl:5: ${other} is the destination of the template at a.hcl:1 too` })
  }
})

test.serial('what is no name of a variable is none, whatever a shell would make of it', t => {
  const block = (custom: string) =>
    `template {\n contents = "x"\n destination = "a"\n exec {\n  command = "true"\n  env {\n   custom = [${custom}]\n  }\n }\n}\n`
  for (const name of ['B;touch INJ', 'A B', '', 'A-B', '1A', '$(id)', 'A\u000ab', 'é']) {
    const text = block(JSON.stringify(`${name}=x`))
    t.throws(() => parseConfiguration(text, 'a.hcl'), {
      message: `a.hcl:7:4: custom: ${JSON.stringify(name)} can't be the name of a variable`,
    })
  }
  const [template] = parseConfiguration(block('"A_1=$(id)", "_b", "C=x=y"'), 'a.hcl').templates
  t.deepEqual(template!.commandEnvironment, { A_1: '$(id)', _b: '', C: 'x=y' })
})

test.serial('a configuration that nests too deep, or has endless comments, is one error with its place', t => {
  const deep = 50_000
  const texts = [
    `a = ${'['.repeat(deep)}`,
    `{"a": ${'['.repeat(deep)}`,
    `${'{"a": '.repeat(deep)}`,
    `${'a {\n'.repeat(deep)}`,
    `a = ${'[{ b = '.repeat(deep)}`,
  ]
  for (const text of texts) {
    const { message } = t.throws(() => parseConfiguration(text, 'a.hcl'), { name: 'RekeyError' })
    t.regex(message, /^a\.hcl:\d+:\d+: is nested deeper than 100 levels$/)
  }
  t.deepEqual(parseConfiguration(`${'# x\n'.repeat(500_000)}`, 'a.hcl').templates, [])
  t.throws(() => parseConfiguration(`${'a '.repeat(deep)} {}`, 'a.hcl'), { message: /^a\.hcl:1:1: the setting "a"/ })
})

test.serial('a dry run prints what consul-template -dry prints', async t => {
  const text =
    'template {\n contents = "one\\n"\n destination = "/a"\n}\ntemplate {\n contents = "two\\n"\n destination = "/b"\n}\n'
  const configuration = parseConfiguration(text, 'a.hcl')
  const rendered = await renderConfiguration(configuration, newRenderer(), { readSource: async () => '' })
  t.is(dryText(rendered).toString(), '> /a\none\n> /b\ntwo\n')
})
