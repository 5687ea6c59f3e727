// Encrypted variables: opened when they are read, and not before.
import { Vault as Cipher } from 'ansible-vault'
import test, { type ExecutionContext } from 'ava'
import { RekeyError } from '../../../lib/errors.ts'
import { type InventoryOptions, loadInventory } from '../../../lib/inventory/index.ts'
import { writeFiles } from '../temporary-files.ts'

const encrypt = (text: string, password: string, id?: string): string =>
  new Cipher({ password }).encryptSync(text, id as string)
const inline = (name: string, text: string, password: string, id?: string): string =>
  `${name}: !vault |\n${encrypt(text, password, id).replace(/^/gm, '  ')}\n`

async function load(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
  options: Partial<InventoryOptions> = {},
) {
  const folder = writeFiles(t, { 'hosts.ini': '[g]\nh1\nh2\n', ...files })
  const inventory = await loadInventory({ sources: ['hosts.ini'], cwd: folder, environment: {}, ...options })
  return { inventory, folder }
}

test.serial('nothing is opened for hosts and groups alone, and what is not encrypted can be read', async t => {
  const { inventory, folder } = await load(t, {
    'host_vars/h1.yml': encrypt('secret: 1\n', 'a'),
    'group_vars/g.yml': `open: yes\n${inline('closed', 'x', 'b')}`,
  })
  t.deepEqual(
    inventory.select('g').map(host => host.name),
    ['h1', 'h2'],
  )
  t.is(inventory.host('h2').vars['open'], true)
  const whole = t.throws(() => inventory.host('h1').vars['open'], { instanceOf: RekeyError })
  t.is(
    whole.message,
    `${folder}/host_vars/h1.yml: encrypted with Ansible Vault (no vault id), and no vault password was given`,
  )
  const one = t.throws(() => inventory.host('h2').vars['closed'], { instanceOf: RekeyError })
  t.is(
    one.message,
    `${folder}/group_vars/g.yml:2: encrypted with Ansible Vault (no vault id), and no vault password was given`,
  )
})

test.serial('formats 1.1 and 1.2, whole and inline, with several ids', async t => {
  const { inventory } = await load(
    t,
    {
      'group_vars/all.yml': encrypt('whole: {n: 1}\n', 'first password'),
      'group_vars/g.yml':
        inline('dev', 'für dev', 'second', 'dev') +
        inline('prod', 'for prod', 'third', 'prod') +
        inline('plain', 'no id', 'first password') +
        'both: "{{ dev }} and {{ prod }}"\n',
      dev: 'second\n',
      'prod.sh': '#!/bin/sh\necho third\n',
    },
    {
      vaultIds: ['dev@dev', 'prod@prod.sh'],
      askVaultPassword: true,
      ask: async prompt => (prompt === 'Vault password: ' ? 'first password' : ''),
    },
  )
  const { vars } = inventory.host('h1')
  t.deepEqual(vars['whole'], { n: 1 })
  t.is(vars['dev'], 'für dev')
  t.is(vars['plain'], 'no id')
  t.is(vars['both'], 'für dev and for prod')
})

test.serial('a password that was given for another id is tried, too', async t => {
  const { inventory } = await load(
    t,
    { 'group_vars/g.yml': inline('v', 'opened', 'word', 'prod'), word: 'word' },
    { vaultPasswordFiles: ['word'] },
  )
  t.is(inventory.host('h1').vars['v'], 'opened')
})

test.serial('a wrong password names the file, the id and what was tried, and no password', async t => {
  const { inventory, folder } = await load(
    t,
    { 'group_vars/g.yml': `a: 1\n${inline('v', 'x', 'right', 'prod')}`, pass: 'wrong-secret' },
    { vaultIds: ['dev@pass'] },
  )
  const error = t.throws(() => inventory.host('h1').vars['v'], { instanceOf: RekeyError })
  t.is(error.message, `${folder}/group_vars/g.yml:2: no vault password opens it (vault id "prod"; tried dev@pass)`)
  t.notRegex(`${error.message}${error.hint}${error.stack}`, /wrong-secret/)
})

test.serial('a text that was cut short is an error', async t => {
  const { inventory } = await load(
    t,
    { 'group_vars/g.yml': inline('v', 'x', 'right').slice(0, -40), pass: 'right' },
    { vaultPasswordFiles: ['pass'] },
  )
  t.throws(() => inventory.host('h1').vars['v'], { message: /no vault password opens it/ })
})

test.serial('an encrypted string is text, whatever braces it has; what uses it is not', async t => {
  const { inventory } = await load(
    t,
    {
      'group_vars/g.yml': `${inline('v', '{{ user }}-secret', 'p')}${inline('w', 'a{{b%}}c', 'p')}user: admin\nboth: "{{ v }}/{{ w }}"\n`,
      pass: 'p',
    },
    { vaultPasswordFiles: ['pass'] },
  )
  const { vars } = inventory.host('h1')
  t.is(vars['v'], '{{ user }}-secret')
  t.is(vars['w'], 'a{{b%}}c')
  t.is(vars['both'], '{{ user }}-secret/a{{b%}}c')
})

test.serial('a program that fails to give a password is named', async t => {
  await t.throwsAsync(
    load(
      t,
      { 'pass.sh': '#!/bin/sh\necho "the token has expired" >&2\nexit 1\n' },
      { vaultPasswordFiles: ['pass.sh'] },
    ),
    { message: /^no vault password from .*pass\.sh: the token has expired$/ },
  )
  await t.throwsAsync(load(t, { empty: '\n' }, { vaultPasswordFiles: ['empty'] }), {
    message: /it gives an empty password$/,
  })
  await t.throwsAsync(load(t, {}, { vaultIds: ['x@prompt'], ask: async () => '' }), {
    message: 'no vault password was typed for the vault id "x"',
  })
})

test.serial('a vault password file of the environment counts, and is said aloud', async t => {
  const told: string[] = []
  const { inventory, folder } = await load(
    t,
    { 'group_vars/g.yml': inline('v', 'x', 'p'), pass: 'p' },
    { environment: { ANSIBLE_VAULT_PASSWORD_FILE: 'pass' }, notice: line => told.push(line) },
  )
  t.is(inventory.host('h1').vars['v'], 'x')
  t.deepEqual(told, ['vault passwords come from pass (ANSIBLE_VAULT_PASSWORD_FILE)'])
  t.truthy(folder)
})

test.serial('what is encrypted stays closed in --list and in explanations', async t => {
  const { inventory } = await load(
    t,
    { 'group_vars/g.yml': inline('v', 'plain text', 'p'), pass: 'p' },
    { vaultPasswordFiles: ['pass'] },
  )
  t.regex(inventory.list(), /"__ansible_vault"/)
  t.notRegex(inventory.list(), /plain text/)
  t.is(inventory.explain('h1', 'v').places[0]?.value, '(encrypted)')
})
