// What is wrong in an inventory is said with its file, its line and what to do.
import { spawnSync } from 'node:child_process'
import { chmodSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { RekeyError } from '../../../lib/errors.ts'
import { createInventoryData } from '../../../lib/inventory/groups.ts'
import { type InventoryOptions, loadInventory } from '../../../lib/inventory/index.ts'
import { addExecutableInventory } from '../../../lib/inventory/sources/executable-source.ts'
import { createVault } from '../../../lib/inventory/vault/vault.ts'
import { writeFiles } from '../temporary-files.ts'

type Files = Readonly<Record<string, string | Buffer>>

/** Loads what the files say, and hands over the error: the first file is the inventory. */
async function refused(
  t: ExecutionContext,
  files: Files,
  { links = {}, options = {} }: Pick<BadInput, 'links' | 'options'> = {},
): Promise<RekeyError> {
  const folder = writeFiles(t, files)
  for (const [name, target] of Object.entries(links)) symlinkSync(target, join(folder, name))
  const error = await t.throwsAsync(
    loadInventory({ sources: [Object.keys(files)[0]!], cwd: folder, environment: {}, ...options }),
    { instanceOf: RekeyError },
  )
  t.is(error.exitCode, 1)
  t.truthy(error.hint)
  // The folder is another one at each run.
  Object.defineProperty(error, 'message', { value: error.message.replaceAll(`${folder}/`, '') })
  return error
}

interface BadInput {
  readonly files: Files
  readonly links?: Readonly<Record<string, string>>
  readonly message: RegExp
  readonly hint: RegExp
  readonly options?: Partial<InventoryOptions>
}

const bad: Record<string, BadInput> = {
  'tabs in YAML': {
    files: { 'hosts.yml': 'all:\n  hosts:\n\th1:\n' },
    message: /^hosts\.yml:3:1: not valid YAML: .*tab/,
    hint: /Indent with spaces/,
  },
  'bad indentation in YAML': {
    files: { 'hosts.yml': 'all:\n  hosts:\n    h1:\n   h2:\n' },
    message: /^hosts\.yml:4:\d+: not valid YAML/,
    hint: /indentation/,
  },
  'a template without quotes': {
    files: { 'hosts.yml': 'all:\n  hosts:\n    h1:\n      a: {{ b }}\n' },
    message: /^hosts\.yml:4/,
    hint: /quotes/,
  },
  'a colon in a value': {
    files: { 'hosts.yml': 'all:\n  vars:\n    a: one: two\n' },
    message: /^hosts\.yml:3:\d+: not valid YAML/,
    hint: /Quote a value that contains a colon/,
  },
  'a group that contains itself, in YAML': {
    files: {
      'hosts.yml': 'a:\n  children:\n    b:\n      children:\n        c:\n          children:\n            a:\n',
    },
    message: /^hosts\.yml:7: a loop among groups: "a" already contains "c"$/,
    hint: /Take "a" out of the children of "c"/,
  },
  'a group that contains itself, in INI': {
    files: { 'hosts.ini': '[a:children]\nb\n[b:children]\na\n' },
    message: /^hosts\.ini:4: a loop among groups: "a" already contains "b"$/,
    hint: /Take/,
  },
  'a range that runs backwards': {
    files: { 'hosts.ini': 'h1\nm[3:1]\n' },
    message: /^hosts\.ini:2: bad host range "m\[3:1\]": begin comes after end$/,
    hint: /node\[1:5\]/,
  },
  'a range without an end': {
    files: { 'hosts.yml': 'all:\n  hosts:\n    m[1:]:\n' },
    message: /^hosts\.yml:3: bad host range "m\[1:\]": the end of the range is missing$/,
    hint: /Write ranges/,
  },
  'a range with unequal widths': {
    files: { 'hosts.ini': 'm[01:100]\n' },
    message: /^hosts\.ini:1: bad host range .* of equal length$/,
    hint: /Write ranges/,
  },
  'a range of more hosts than anyone has': {
    files: { 'hosts.ini': 'm[1:99999999]\n' },
    message: /^hosts\.ini:1: bad host range .* more than 1000000 hosts$/,
    hint: /Write ranges/,
  },
  'an executable that fails': {
    files: { 'hosts.sh': '#!/bin/sh\necho "no access to the cloud" >&2\nexit 7\n' },
    message: /^hosts\.sh --list ended with exit code 7: no access to the cloud$/,
    hint: /by hand/,
  },
  'an executable whose interpreter is missing': {
    files: { 'hosts.sh': '#!/no/such/interpreter\n' },
    message: /^hosts\.sh --list could not be run: ENOENT$/,
    hint: /interpreter/,
  },
  'an executable that prints no JSON': {
    files: { 'hosts.sh': '#!/bin/sh\necho hello\n' },
    message: /^hosts\.sh --list printed no JSON: /,
    hint: /nothing else on its standard output/,
  },
  'an executable that prints a list': {
    files: { 'hosts.sh': '#!/bin/sh\necho "[1]"\n' },
    message: /^hosts\.sh: --list printed a list, not a map$/,
    hint: /one JSON object/,
  },
  'an executable with a malformed group': {
    files: { 'hosts.sh': '#!/bin/sh\necho \'{"g": {"hosts": "h1"}}\'\n' },
    message: /^hosts\.sh: "hosts" of the group "g" is a string, not a list$/,
    hint: /list of host names/,
  },
  'group_vars that are a list': {
    files: { 'hosts.ini': '[g]\nh1\n', 'group_vars/g.yml': '---\n- a: 1\n' },
    message: /^group_vars\/g\.yml:2: a file of variables must be a map, not a list$/,
    hint: /name: value/,
  },
  'bad YAML in host_vars': {
    files: { 'hosts.ini': 'h1\n', 'host_vars/h1.yml': 'a: 1\nb: [1, 2\n' },
    message: /^host_vars\/h1\.yml:\d+:\d+: not valid YAML/,
    hint: /./,
  },
  'an inventory that is not there': {
    files: { 'hosts.ini': '' },
    options: { sources: ['nowhere.yml'] },
    message: /^there is no inventory at nowhere\.yml$/,
    hint: /-i host1,/,
  },
  'no inventory at all': {
    files: { 'hosts.ini': '' },
    options: { sources: [] },
    message: /^no inventory given/,
    hint: /-i/,
  },
  'a billion laughs': {
    files: {
      'hosts.yml': `a: &a [${'lol, '.repeat(9)}lol]\n${[...'bcdefghi'].map((name, index) => `${name}: &${name} [${`*${'abcdefgh'[index]}, `.repeat(9)}*${'abcdefgh'[index]}]\n`).join('')}`,
    },
    message: /^hosts\.yml:\d+: the aliases here multiply to more than 1,000,000 values$/,
    hint: /Nothing that large/,
  },
  'long texts multiplied by aliases': {
    files: {
      'hosts.yml': `t: &t "${'x'.repeat(100_000)}"\nu: &u [${'*t, '.repeat(99)}*t]\nv: [${'*u, '.repeat(99)}*u]\n`,
    },
    message: /^hosts\.yml:3: the aliases here multiply/,
    hint: /Nothing that large/,
  },
  'an alias that contains itself': {
    files: { 'hosts.yml': 'all:\n  vars:\n    a: &a [1, *a]\n' },
    message: /^hosts\.yml:3: \*a contains itself$/,
    hint: /Write out/,
  },
  'an alias without an anchor': {
    files: { 'hosts.yml': 'all:\n  vars:\n    a: *b\n' },
    message: /^hosts\.yml:3: there is no anchor &b before \*b$/,
    hint: /Define the anchor/,
  },
  'a tag of another program': {
    files: { 'hosts.yml': 'all:\n  vars:\n    a: !python/object x\n' },
    message: /^hosts\.yml:3: the tag !python\/object can't be read$/,
    hint: /!vault and !unsafe/,
  },
  'a second document': {
    files: { 'hosts.yml': 'all:\n  hosts: {h1: }\n---\nall:\n' },
    message: /^hosts\.yml:\d+: a second document starts$/,
    hint: /one document/,
  },
  'a list where hosts should be a map': {
    files: { 'hosts.yml': 'all:\n  hosts:\n    - h1\n    - h2\n' },
    message: /^hosts\.yml:2: "hosts" of the group "all" must be a map, not a list$/,
    hint: /`name:` with a colon/,
  },
  'a host that is a number': {
    files: { 'hosts.yml': 'all:\n  hosts:\n    12:\n' },
    message: /^hosts\.yml:3: the name of a host must be text, not a number$/,
    hint: /"12"/,
  },
  'a YAML file that is a list': {
    files: { 'hosts.yml': '- h1\n' },
    message: /^hosts\.yml:1: an inventory must be a map of groups$/,
    hint: /all:/,
  },
  'an inventory plugin': {
    files: { 'aws.yml': 'plugin: amazon.aws.aws_ec2\nregions: [x]\n' },
    message: /^aws\.yml:1: the inventory plugin "amazon\.aws\.aws_ec2" runs in Ansible only$/,
    hint: /ansible-inventory/,
  },
  'bad TOML': {
    files: { 'hosts.toml': '[all.hosts]\nh1 = {}\nh2 = {\n' },
    message: /^hosts\.toml:\d+:\d+: not valid TOML: /,
    hint: /Correct/,
  },
  'TOML whose hosts are a list': {
    files: { 'hosts.toml': '[web]\nhosts = ["h1"]\n' },
    message: /^hosts\.toml: "hosts" of the group "web" must be a table, not a list$/,
    hint: /\[GROUP\.hosts\]/,
  },
  'TOML with microseconds': {
    files: { 'hosts.toml': '[all.vars]\na = 1\nt = 07:32:00.123456\n' },
    message: /^hosts\.toml:3: a time with parts of milliseconds/,
    hint: /quotes/,
  },
  'TOML for an inventory plugin': {
    files: { 'hosts.toml': 'plugin = "constructed"\n' },
    message: /^hosts\.toml: it configures an inventory plugin$/,
    hint: /YAML only/,
  },
  'INI with a byte order mark': {
    files: { hosts: '\ufeff[g]\nh1 a=1\n' },
    message: /^hosts:1: the file starts with a byte order mark/,
    hint: /without one/,
  },
  'a constructed inventory that is not called .yml': {
    files: { made: 'plugin: constructed\n' },
    message: /^made:1: Ansible reads a constructed inventory from \.yml and \.yaml only$/,
    hint: /Rename/,
  },
  'a strict constructed inventory that misses a variable': {
    files: {
      'inv/c.yml': 'plugin: constructed\nstrict: yes\ngroups:\n  web: no_such\n',
      'inv/a.ini': 'h1\n',
    },
    options: { sources: ['inv'] },
    message: /^inv\/c\.yml:3: the group "web" of h1: "no_such" is undefined/,
    hint: /default/,
  },
  'a constructed inventory with a filter that rekey does not have': {
    files: {
      'inv/c.yml': 'plugin: constructed\ncompose: {a: inventory_hostname | no_such_filter}\n',
      'inv/a.ini': 'h1\n',
    },
    options: { sources: ['inv'] },
    message: /^inv\/c\.yml:2: compose "a" of h1: the filter "no_such_filter"/,
    hint: /./,
  },
  'a constructed inventory whose key is a number': {
    files: { 'inv/c.yml': 'plugin: constructed\nkeyed_groups: [{key: 5}]\n', 'inv/a.ini': 'h1\n' },
    options: { sources: ['inv'] },
    message: /^inv\/c\.yml:2: the key of "keyed_groups" must be an expression, not a number$/,
    hint: /./,
  },
  'a constructed inventory whose key gives a number': {
    files: { 'inv/c.yml': 'plugin: constructed\nkeyed_groups: [{key: 2 + 3}]\n', 'inv/a.ini': 'h1\n' },
    options: { sources: ['inv'] },
    message: /^inv\/c\.yml:2: the key "2 \+ 3" gives a number for h1, not text, a list or a map$/,
    hint: /./,
  },
  'a section of an unknown kind': {
    files: { 'hosts.ini': '[g:host]\nh1\n' },
    message: /^hosts\.ini:1: the section \[g:host\] is of an unknown kind$/,
    hint: /\[group:vars\]/,
  },
  'a child that nothing declares': {
    files: { 'hosts.ini': '[g:children]\nnobody\n' },
    message: /^hosts\.ini:2: \[g:children\] names "nobody", a group that nothing declares$/,
    hint: /\[nobody\]/,
  },
  'variables of a group that nothing declares': {
    files: { 'hosts.ini': 'h1\n[g:vars]\na=1\n' },
    message: /^hosts\.ini:2: \[g:vars\] is for a group that nothing declares$/,
    hint: /\[g\]/,
  },
  'words behind a host': {
    files: { 'hosts.ini': 'h1 h2\n' },
    message: /^hosts\.ini:1: expected key=value behind the host, not "h2"$/,
    hint: /one host a line/,
  },
  'an open quote in INI': {
    files: { 'hosts.ini': "h1 a='x\n" },
    message: /^hosts\.ini:1: a quote is not closed$/,
    hint: /Close it/,
  },
  'a file that is not UTF-8': {
    files: { 'hosts.yml': Buffer.from('all:\n  hosts:\n    h1: {a: \xe4}\n', 'latin1') },
    message: /^hosts\.yml:3: not UTF-8 text$/,
    hint: /UTF-8/,
  },
  'an encrypted file without a password': {
    files: { 'hosts.yml': '$ANSIBLE_VAULT;1.2;AES256;prod\n3030\n' },
    message: /^hosts\.yml: encrypted with Ansible Vault \(vault id "prod"\), and no vault password was given$/,
    hint: /--vault-id prod@FILE/,
  },
  'a setting under which Ansible would read the same files differently': {
    files: { 'hosts.ini': 'h1\n', 'ansible.cfg': '[defaults]\nprecedence = all_inventory\n' },
    message: /^precedence in ansible\.cfg is set/,
    hint: /Unset it/,
  },
  'a setting that is neither true nor false': {
    files: { 'hosts.ini': 'h1\n', 'ansible.cfg': '[defaults]\ninject_facts_as_vars = maybe\n' },
    message: /^inject_facts_as_vars in ansible\.cfg is "maybe": it is neither true nor false$/,
    hint: /ANSIBLE_CONFIG/,
  },
  'an ignored pattern that is no regular expression': {
    files: { 'inv/hosts': 'h1\n', 'ansible.cfg': '[defaults]\ninventory_ignore_patterns = (\n' },
    options: { sources: ['inv'] },
    message: /^inventory_ignore_patterns of ansible\.cfg: "\(" can't be read: /,
    hint: /regular expression/,
  },
  'a template among ignored extensions': {
    files: { 'hosts.ini': 'h1\n', 'ansible.cfg': '[defaults]\ninventory_ignore_extensions = {{ REJECT_EXTS }}\n' },
    message: /^inventory_ignore_extensions in ansible\.cfg is .* a template is not evaluated there$/,
    hint: /ANSIBLE_CONFIG/,
  },
  'a link that goes round in a circle in group_vars': {
    files: { 'hosts.ini': '[g]\nh1\n', 'group_vars/g/a.yml': 'a: 1\n' },
    links: { 'group_vars/g/loop': '..' },
    message: /^group_vars\/g\/loop\/g: it leads back to .*group_vars\/g, in a circle$/,
    hint: /Remove/,
  },
  'a link to itself in group_vars': {
    files: { 'hosts.ini': 'h1\n', 'group_vars/all/a.yml': 'a: 1\n' },
    links: { 'group_vars/all/self.yml': 'self.yml' },
    message: /^group_vars\/all\/self\.yml can't be read: .*ELOOP/,
    hint: /./,
  },
  'a link that goes round in a circle in an inventory folder': {
    files: { 'inv/hosts': 'h1\n' },
    links: { 'inv/again': '.' },
    options: { sources: ['inv'] },
    message: /^inv\/again: it leads back to .*inv, in a circle$/,
    hint: /Remove/,
  },
  'extra variables that set nothing': {
    files: { 'hosts.ini': 'h1\n' },
    options: { extraVars: ['debug'] },
    message: /^-e debug: expected key=value$/,
    hint: /Quote a value/,
  },
  'a file of extra variables without its @': {
    files: { 'hosts.ini': 'h1\n' },
    options: { extraVars: ['./vars.yml'] },
    message: /^-e \.\/vars\.yml: a file of variables needs an @ before its name$/,
    hint: /-e @\.\/vars\.yml/,
  },
  'a vault password file that is not there': {
    files: { 'hosts.ini': 'h1\n' },
    options: { vaultPasswordFiles: ['nowhere'] },
    message: /^no vault password from nowhere: there is no such file$/,
    hint: /one line/,
  },
}

for (const [title, { files, message, hint, links, options }] of Object.entries(bad)) {
  test.serial(`refused with its place and a hint: ${title}`, async t => {
    const error = await refused(t, files, { links, options })
    t.regex(error.message, message)
    t.regex(error.hint ?? '', hint)
  })
}

test.serial('an executable that hangs is ended', async t => {
  const folder = writeFiles(t, { 'hosts.sh': '#!/bin/sh\nsleep 60\n' })
  const file = join(folder, 'hosts.sh')
  const options = { cwd: folder, environment: process.env, vault: createVault([]), notice: () => {}, timeout: 300 }
  const error = await t.throwsAsync(
    addExecutableInventory({ data: createInventoryData(), source: file }, file, options),
    { instanceOf: RekeyError },
  )
  t.is(error.message, `${file} --list took more than 0.3 s and was ended`)
})

test.serial('a file that may not be read is named', t => {
  const folder = writeFiles(t, { 'hosts.ini': 'h1\n' })
  const file = join(folder, 'hosts.ini')
  chmodSync(file, 0)
  // Permissions mean nothing to root, but to root without a mapping in a user namespace they do.
  const rekey = join(import.meta.dirname, '..', '..', '..', 'bin', 'rekey')
  const words = [rekey, 'inventory', '-i', file, '--list']
  const [program = '', ...args] = process.getuid?.() === 0 ? ['unshare', '--user', ...words] : words
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  t.is(status, 1)
  t.true(stderr.includes(`${file} can't be read: permission denied`), stderr)
})

test.serial('a folder where a file of variables should be readable is named when it is not', async t => {
  const folder = writeFiles(t, { 'hosts.ini': 'h1\n', 'extra.yml/file': '' })
  const error = await t.throwsAsync(
    loadInventory({ sources: ['hosts.ini'], extraVars: ['@extra.yml'], cwd: folder, environment: {} }),
    { instanceOf: RekeyError },
  )
  t.regex(error.message, /extra\.yml can't be read: /)
})

test.serial('a limit that names nothing is an error with the nearest name', async t => {
  const folder = writeFiles(t, { 'hosts.ini': '[masters]\nm1\n[nodes]\nn1\n' })
  const inventory = await loadInventory({ sources: ['hosts.ini'], cwd: folder, environment: {} })
  const error = t.throws(() => inventory.select('all', { limit: 'nodse' }), { instanceOf: RekeyError })
  t.is(error.message, '--limit nodse: "nodse" matches no host and no group of the inventory')
  t.is(error.hint, 'Did you mean "nodes"?')
  t.throws(() => inventory.select('all', { limit: 'masters:!m1' }), { message: /leaves no host/ })
  t.throws(() => inventory.select('all', { limit: '' }), { message: '--limit is empty' })
  t.throws(() => inventory.select('all', { limit: '@nowhere' }), { message: /limit file .*nowhere can't be read/ })
})

test.serial('a pattern that names nothing is told, not an error', async t => {
  const folder = writeFiles(t, { 'hosts.ini': 'h1\n' })
  const told: string[] = []
  const inventory = await loadInventory({
    sources: ['hosts.ini'],
    cwd: folder,
    environment: {},
    notice: line => told.push(line),
  })
  t.deepEqual(inventory.select('nodes'), [])
  t.deepEqual(told, ['"nodes" matches no host and no group of the inventory'])
})

test.serial('a key that occurs twice is told with both lines', async t => {
  const folder = writeFiles(t, { 'hosts.yml': 'all:\n  hosts:\n    h1:\n      a: 1\n      a: 2\n' })
  const told: string[] = []
  await loadInventory({ sources: ['hosts.yml'], cwd: folder, environment: {}, notice: line => told.push(line) })
  t.deepEqual(told, [`${folder}/hosts.yml:5: the key "a" was already given in line 4; this one counts`])
})

test.serial('where the inventory comes from is said aloud when no -i is given', async t => {
  const folder = writeFiles(t, {
    'ansible.cfg': '[defaults]\ninventory = hosts.ini\nremote_port = 22\n',
    'hosts.ini': 'h1\n',
    'other.ini': 'h2\n',
  })
  const told: string[] = []
  const notice = (line: string): void => void told.push(line.replaceAll(`${folder}/`, ''))
  const fromFile = await loadInventory({ sources: [], cwd: folder, environment: {}, notice })
  t.deepEqual(
    fromFile.hosts.map(host => host.name),
    ['h1'],
  )
  const fromEnvironment = await loadInventory({
    sources: [],
    cwd: folder,
    environment: { ANSIBLE_INVENTORY: 'other.ini' },
    notice,
  })
  t.deepEqual(
    fromEnvironment.hosts.map(host => host.name),
    ['h2'],
  )
  t.deepEqual(told, [
    'remote_port in ansible.cfg is not used: set ansible_port in group_vars/all instead',
    'no -i given: the inventory is hosts.ini (inventory in ansible.cfg)',
    'remote_port in ansible.cfg is not used: set ansible_port in group_vars/all instead',
    'no -i given: the inventory is other.ini (ANSIBLE_INVENTORY)',
  ])
})

test.serial('what Ansible would warn of, or do otherwise, is told', async t => {
  const folder = writeFiles(t, {
    'a,b/hosts': '[seed]\nseed ansible_host=192.0.2.1\n',
    'c.yml': 'plugin: constructed\nkeyed_group: []\n',
    'hosts.yml': 'all:\n  vars:\n    a: &a {x: 1, y: 2}\n    b: &b {x: 3, y: 2}\n    c:\n      <<: [*a, *b]\n',
  })
  const told: string[] = []
  const notice = (line: string): void => void told.push(line.replaceAll(`${folder}/`, ''))
  const { hosts } = await loadInventory({
    sources: ['a,b/hosts', 'c.yml', 'hosts.yml'],
    cwd: folder,
    environment: {},
    notice,
  })
  t.deepEqual(
    hosts.map(host => [host.name, host.connection.address]),
    [['seed', '192.0.2.1']],
  )
  t.deepEqual(told, [
    "-i a,b/hosts: ansible-core 2.19 can't read an inventory with a comma in its path; rekey does",
    'c.yml:2: "keyed_group" is no option of constructed; did you mean "keyed_groups"?',
    'hosts.yml:6: several maps of << have the key "x"; that of line 3 counts, with PyYAML 6.0.4 it may be another one',
    'a,b/hosts:2: "seed" is a host here and a group in a,b/hosts:1: in patterns it is the host, and what the inventory sets for the host it sets for the group',
  ])
})
