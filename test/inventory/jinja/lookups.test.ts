// Lookups that reach for this machine, beyond what fixtures/templates.json holds to Ansible's answers.
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { RekeyError } from '../../../lib/errors.ts'
import { type Inventory, type InventoryOptions, loadInventory } from '../../../lib/inventory/index.ts'
import { processSecrets } from '../../../lib/secrets/index.ts'
import { writeFiles } from '../temporary-files.ts'

async function load(
  t: ExecutionContext,
  variables: Readonly<Record<string, string>>,
  files: Readonly<Record<string, string>> = {},
  options: Partial<InventoryOptions> = {},
): Promise<Inventory & { folder: string }> {
  const folder = writeFiles(t, { 'hosts.yml': JSON.stringify({ all: { hosts: { h1: variables } } }), ...files })
  const inventory = await loadInventory({ sources: ['hosts.yml'], cwd: folder, environment: {}, ...options })
  return Object.assign(inventory, { folder })
}

const isSecret = (text: string): boolean => processSecrets.search.find(text).found.length > 0

test.serial(
  'lookup("password") makes a password once, keeps it for its owner alone, and has it replaced everywhere',
  async t => {
    const variables = {
      made: "{{ lookup('password', 'credentials/new pass length=32 chars=ascii_lowercase,digits,,') }}",
      again: "{{ lookup('password', 'credentials/new pass') }}",
      none: "{{ lookup('password', '/dev/null length=12') }}",
    }
    const inventory = await load(t, variables)
    const made = String(inventory.host('h1').vars['made'])
    t.regex(made, /^[a-z0-9,]{32}$/)
    const file = join(inventory.folder, 'credentials', 'new pass')
    t.is(readFileSync(file, 'utf8'), `${made}\n`)
    t.is(statSync(file).mode & 0o777, 0o600)
    t.is(statSync(join(inventory.folder, 'credentials')).mode & 0o777, 0o700)
    t.deepEqual(readdirSync(join(inventory.folder, 'credentials')), ['new pass'])
    t.is(inventory.host('h1').vars['again'], made)
    t.true(isSecret(`the password is ${made}.`))
    t.regex(String(inventory.host('h1').vars['none']), /^[A-Za-z0-9.,:_-]{12}$/)
    const later = await loadInventory({ sources: ['hosts.yml'], cwd: inventory.folder, environment: {} })
    t.is(later.host('h1').vars['made'], made)
  },
)

test.serial('lookup("password") says what it has not, and what can not be written', async t => {
  const inventory = await load(t, {
    encrypted: "{{ lookup('password', 'p encrypt=sha512_crypt') }}",
    misspelt: "{{ lookup('password', 'p lenght=3') }}",
    folder: "{{ lookup('password', '.') }}",
    long: "{{ lookup('password', 'p length=100000000') }}",
  })
  const { vars } = inventory.host('h1')
  t.throws(() => vars['encrypted'], {
    instanceOf: RekeyError,
    message: /hosts\.yml:1: .*"encrypt" is not one that rekey has/,
  })
  t.throws(() => vars['misspelt'], { message: /"lenght=3" is no parameter: they are length, chars/ })
  t.throws(() => vars['folder'], { message: /the lookup "password": .* can't be read or made: EISDIR/ })
  t.throws(() => vars['long'], { message: /"length" is a whole number, up to 10,000/ })
  t.false(existsSync(join(inventory.folder, 'p')))
})

test.serial(
  'lookup("pipe") runs nothing unless the operator says so, and then without the secrets of the environment',
  async t => {
    const variables = { asked: "{{ lookup('pipe', 'echo ran > ran; echo $PLAIN $MY_TOKEN; exit $CODE') }}" }
    const refused = await load(t, variables)
    t.throws(() => refused.host('h1').vars['asked'], {
      message: /hosts\.yml:1: .*the lookup "pipe": .* only where REKEY_LOOKUP_PIPE=yes is set$/,
    })
    t.false(existsSync(join(refused.folder, 'ran')))
    const environment = {
      REKEY_LOOKUP_PIPE: 'yes',
      PATH: process.env['PATH'],
      PLAIN: 'plain',
      MY_TOKEN: 'a-token-of-mine',
      CODE: '0',
    }
    const allowed = await load(t, variables, {}, { environment })
    t.is(allowed.host('h1').vars['asked'], 'plain')
    t.true(existsSync(join(allowed.folder, 'ran')))
    const failing = await load(t, variables, {}, { environment: { ...environment, CODE: '3' } })
    t.throws(() => failing.host('h1').vars['asked'], { message: /the command ended with exit code 3$/ })
  },
)

test.serial('files are read beside the playbook, and only what is a file, a text, and not too long', async t => {
  const inventory = await load(
    t,
    {
      beside: "{{ lookup('file', 'x.txt') }}",
      home: "{{ lookup('file', '~/x.txt') }}",
      device: "{{ lookup('file', '/dev/zero') }}",
      binary: "{{ lookup('file', 'binary') }}",
      braces: "{{ lookup('file', 'braces') }}",
      unreadable: "{{ lookup('template', 'broken.j2') }}",
    },
    {
      'play/files/x.txt': 'of the play',
      'x.txt': 'of the home',
      'play/files/braces': '{{ nope }}',
      'play/broken.j2': '{% if %}',
    },
    { playbookDirectory: 'play' },
  )
  writeFileSync(join(inventory.folder, 'play', 'binary'), Buffer.from([0xff, 0xfe, 0x00]))
  const { vars } = inventory.host('h1')
  t.is(vars['beside'], 'of the play')
  t.is(vars['braces'], '{{ nope }}')
  t.throws(() => vars['device'], { message: /\/dev\/zero is no file/ })
  t.throws(() => vars['binary'], { message: /is no text in UTF-8/ })
  t.throws(() => vars['unreadable'], { message: /broken\.j2 can't be read: the expression ends too early/ })
  const home = await loadInventory({
    sources: ['hosts.yml'],
    cwd: inventory.folder,
    environment: { HOME: inventory.folder },
  })
  t.is(home.host('h1').vars['home'], 'of the home')
  chmodSync(join(inventory.folder, 'x.txt'), 0o600)
})

test.serial('maps keep the order of their keys, also of those that look like numbers', async t => {
  const folder = writeFiles(t, {
    'hosts.yml':
      'all:\n  hosts:\n    h1:\n      m: {b: 1, 10: a, 2: {9: x, 1: y}}\n      t: "{{ m }}"\n      plain: {1: a, 2: b}\n',
  })
  const inventory = await loadInventory({ sources: ['hosts.yml'], cwd: folder, environment: {} })
  const { vars } = inventory.host('h1')
  for (const name of ['m', 't']) {
    const value = vars[name] as Record<string, unknown>
    t.is(JSON.stringify(value), '{"b":1,"10":"a","2":{"9":"x","1":"y"}}')
    t.deepEqual(Object.keys(value), ['b', '10', '2'])
    t.deepEqual({ ...value }, { b: 1, 10: 'a', 2: { 9: 'x', 1: 'y' } })
    t.deepEqual(value, { b: 1, 10: 'a', 2: { 9: 'x', 1: 'y' } })
  }
  t.is(JSON.stringify(vars['plain']), '{"1":"a","2":"b"}')
})
