// Inventories that somebody means no good with, or that a program made wrong: one error with its place, in bounded time and memory.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { truncateSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { RekeyError } from '../../../lib/errors.ts'
import { createInventoryData } from '../../../lib/inventory/groups.ts'
import { type Inventory, type InventoryOptions, loadInventory } from '../../../lib/inventory/index.ts'
import { addExecutableInventory } from '../../../lib/inventory/sources/executable-source.ts'
import { createVault } from '../../../lib/inventory/vault/vault.ts'
import { writeFiles } from '../temporary-files.ts'

async function load(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
  options: Partial<InventoryOptions> = {},
): Promise<Inventory> {
  const folder = writeFiles(t, files)
  return await loadInventory({ sources: [Object.keys(files)[0]!], cwd: folder, environment: {}, ...options })
}

/** The error for what files say, without the folder that they lie in. */
async function refusal(
  t: ExecutionContext,
  ...args: [Readonly<Record<string, string>>, Partial<InventoryOptions>?]
): Promise<string> {
  const error = await t.throwsAsync(load(t, ...args), { instanceOf: RekeyError })
  t.truthy(error.hint)
  t.true(error.message.length < 1000)
  return error.message.replaceAll(/\/\S*rekey-inventory-\w+\//g, '')
}

const program = (printed: object): string => `#!/bin/sh\ncat <<'END'\n${JSON.stringify(printed)}\nEND\n`

test('names that are no names are refused with their place', async t => {
  const names: [files: Record<string, string>, message: RegExp][] = [
    [{ 'h.sh': program({ g: { hosts: ['nul\0x'] } }) }, /^h\.sh: the name "nul\\u0000x" of a host has characters/],
    [{ 'h.sh': program({ 'esc\u001b]0;x': { hosts: ['h1'] } }) }, /^h\.sh: the name "esc\\u001b\]0;x" of a group has/],
    [{ 'h.sh': program({ g: { hosts: ['half\ud800'] } }) }, /^h\.sh: the name "half\\ud800" of a host/],
    [{ 'h.sh': program({ g: { hosts: ['../../x'] } }) }, /^h\.sh: the name "\.\.\/\.\.\/x" of a host would be a path$/],
    [{ 'h.sh': program({ g: { hosts: ['..'] } }) }, /^h\.sh: the name "\.\." of a host would be a path$/],
    [{ 'h.yml': 'all:\n  hosts:\n    "a\\nb":\n' }, /^h\.yml:3: the name "a\\nb" of a host has characters/],
    [{ 'h.yml': 'all:\n  hosts:\n    a/b:\n' }, /^h\.yml:3: the name "a\/b" of a host would be a path$/],
    [{ 'h.yml': 'all:\n  children:\n    "a\\x9b": {}\n' }, /^h\.yml:3: the name "a\\u009b" of a group has/],
    [{ 'h.ini': 'h1\nh2\x07 a=1\n' }, /^h\.ini:2: the name "h2\\u0007" of a host has/],
    [{ 'h.ini': '[g]\nright\u202eleft\n' }, /^h\.ini:2: the name "right\\u202eleft" of a host has/],
    [{ 'h.toml': '[all.hosts]\n"a/b" = {}\n' }, /^h\.toml: the name "a\/b" of a host would be a path$/],
    [{ hosts: 'h1\n', 'c.yml': 'plugin: constructed\ngroups: {"x\\u0001": true}\n' }, /./],
  ]
  for (const [files, message] of names.slice(0, -1)) t.regex(await refusal(t, files), message)
  // Constructed names are made safe by Ansible's own rule.
  const made = await load(t, names.at(-1)![0], { sources: ['hosts', 'c.yml'] })
  t.deepEqual(
    made.host('h1').groups,
    ['ungrouped', 'x_'].filter(name => made.host('h1').groups.includes(name)),
  )
  t.true(made.groups.has('x_'))
})

test('no name of a group leads out of the folder of its variables', async t => {
  const inventory = await load(t, {
    'inv/h.yml': 'all:\n  children:\n    ../../secret: {hosts: {h1: }}\n    a/b: {hosts: {h1: }}\n',
    'inv/group_vars/a/b.yml': 'inside: 1\n',
    'secret.yml': 'outside: 1\n',
  })
  t.deepEqual(Object.keys(inventory.host('h1').vars), ['inside'])
})

test('what lies 20,000 levels deep is one error, or text as in Ansible', async t => {
  const n = 20_000
  const deep: [files: Record<string, string>, message: RegExp][] = [
    [{ 'h.yml': `all:\n  vars:\n    a: ${'['.repeat(n)}\n` }, /^h\.yml:3:\d+: not valid YAML: more than 200 brackets/],
    [
      { 'h.yml': `all:\n  vars:\n    a:\n      ${'- '.repeat(n)}\n` },
      /^h\.yml:4:\d+: not valid YAML: more than 200 levels/,
    ],
    [{ 'h.yml': `${'{"a": '.repeat(n)}1${'}'.repeat(n)}` }, /^h\.yml:1:\d+: not valid YAML: more than 200 brackets/],
    [
      { 'h.sh': `#!/bin/sh\ncat ${'$0'}.json\n`, 'h.sh.json': `${'['.repeat(n)}` },
      /^h\.sh --list printed no JSON: line 1: more than 200 levels/,
    ],
    [{ 'h.toml': `a = ${'['.repeat(n)}\n` }, /^h\.toml:1:\d+: not valid TOML: /],
    [
      { 'h.ini': Array.from({ length: n }, (_, i) => `[g${i}:children]\ng${i + 1}\n`).join('') },
      /^h\.ini:\d+: the group "g1001": more than 1,000 groups contain it$/,
    ],
    [
      { 'h.ini': `[g${n}]\n${Array.from({ length: n }, (_, i) => `[g${n - i - 1}:children]\ng${n - i}\n`).join('')}` },
      /^h\.ini:\d+: the group "g\d+": it lies in more than 200 groups within each other$/,
    ],
  ]
  for (const [files, message] of deep) t.regex(await refusal(t, files), message)
  t.regex(await refusal(t, { 'h.ini': 'h1\n' }, { extraVars: [`{"a": ${'['.repeat(n)}`] }), /^-e:1:\d+: not valid YAML/)
  const brackets = (count: number): string => '['.repeat(count) + ']'.repeat(count)
  const inventory = await load(t, { 'h.ini': `h1 a=${brackets(200)} b=${brackets(201)}\n` })
  t.true(Array.isArray(inventory.host('h1').vars['a']))
  t.is(inventory.host('h1').vars['b'], brackets(201))
})

test('files without an end are not read', async t => {
  const folder = writeFiles(t, { 'h.ini': 'h1\n', 'large.ini': '', 'group_vars/all.yml': 'a: 1\n' })
  truncateSync(join(folder, 'large.ini'), 64 * 1024 * 1024 + 1)
  execFileSync('mkfifo', ['-m', '644', join(folder, 'pipe')])
  execFileSync('mkfifo', ['-m', '755', join(folder, 'executable')])
  const server = createServer().listen(join(folder, 'socket'))
  await once(server, 'listening')
  t.teardown(() => server.close())
  const message = async (options: Partial<InventoryOptions>): Promise<string> => {
    const error = await t.throwsAsync(loadInventory({ sources: ['h.ini'], cwd: folder, environment: {}, ...options }), {
      instanceOf: RekeyError,
    })
    return error.message.replaceAll(`${folder}/`, '')
  }
  t.is(await message({ sources: ['large.ini'] }), "large.ini can't be read: it is larger than 64 MiB")
  for (const name of ['pipe', 'executable', 'socket'])
    t.is(await message({ sources: [name] }), `${name} can't be read: it is no file`)
  t.is(await message({ extraVars: ['@/dev/zero'] }), "/dev/zero can't be read: it is no file")
})

test('executables that print without an end, or never end, are ended', async t => {
  const folder = writeFiles(t, {
    'endless.sh': '#!/bin/sh\nexec yes\n',
    'loud.sh': '#!/bin/sh\nexec yes >&2\n',
    'waiting.sh': '#!/bin/sh\nsleep 60 &\nwait\n',
    'left.sh': "#!/bin/sh\nsleep 60 &\necho '{}'\n",
  })
  const options = { cwd: folder, environment: process.env, vault: createVault([]), notice: () => {}, timeout: 10_000 }
  const message = async (name: string, timeout: number): Promise<string> => {
    const file = join(folder, name)
    const error = await t.throwsAsync(
      addExecutableInventory({ data: createInventoryData(), source: file }, file, { ...options, timeout }),
      { instanceOf: RekeyError },
    )
    return error.message.replaceAll(`${folder}/`, '')
  }
  t.is(await message('endless.sh', 60_000), 'endless.sh --list printed more than 64 MiB and was ended')
  // Split into lines, what it said took 675 MB.
  const before = process.resourceUsage().maxRSS
  t.is(await message('loud.sh', 60_000), 'loud.sh --list printed more than 64 MiB and was ended')
  t.true(process.resourceUsage().maxRSS - before < 400 * 1024)
  t.is(await message('waiting.sh', 300), 'waiting.sh --list took more than 0.3 s and was ended')
  // One that ended well, and left a program behind that keeps its output open, is waited for no longer.
  const left = join(folder, 'left.sh')
  await addExecutableInventory({ data: createInventoryData(), source: left }, left, { ...options, timeout: 300 })
})

test('no text of an inventory takes longer than its length', async t => {
  t.timeout(120_000)
  const n = 100_000
  const long = (text: string): string => text.repeat(n / text.length)
  const hosts = [
    ...[
      `a="${long('x')}"`,
      `a="${long('x')}`,
      `${long(' ')}x`,
      `a="${long('\\x')}`,
      `a=${long('1')}x`,
      `a=${long('1')}jj`,
    ],
    ...[
      `a=${long('1_')}.`,
      `a=${long('1')}`,
      `a=0x${long('f')}`,
      `a=1+${long('1')}`,
      `a=${long('[')}`,
      `a=${long("'a' ")}`,
    ],
    `a={${Array.from({ length: 10_000 }, (_, i) => i).join()}}`,
  ].map(line => ({ 'h.ini': `h1 ${line}\n` }))
  const names = [
    long('a.'),
    `a${long('-')}:1`,
    `a${long('[')}`,
    long('a:'),
    `a${long('[1:1]')}`,
    `${long('x')}[0:9]`,
    `[${long(':a')}`,
  ]
  const yaml = [
    ...[
      `a: b${long(' ')}c: d`,
      `a: b: ${long(' ')}x`,
      `a: ${long('{b: ')}`,
      `a: 1${long(':1')}`,
      `a: 1${long(':1')}.5`,
    ],
    ...[
      `a: ${long('1')}`,
      `a: 2001-01-01${long(' ')}x`,
      `a: "${long('\\\\')}`,
      `a: '${long("''")}`,
      `a:${long('\n')}b`,
      long('&a '),
      long('? '),
    ],
  ].map(text => ({ 'h.yml': `${text}\n` }))
  const config = { 'h.ini': 'h1\n', 'ansible.cfg': `[defaults]\n${long(' ')}a\na${long(' ')}b\n` }
  for (const files of [...hosts, ...names.map(name => ({ 'h.ini': `${name}\n` })), ...yaml, config]) {
    try {
      const inventory = await load(t, files)
      inventory.list()
    } catch (error) {
      if (!(error instanceof RekeyError)) throw error
      t.true(error.message.length < 1000)
    }
  }
  const inventory = await load(t, { 'h.ini': `${'a'.repeat(200)}\n`.repeat(2) })
  t.deepEqual(inventory.select(`${'*a'.repeat(50)}*b`), [])
  t.is(inventory.select(`${'*a'.repeat(50)}*`).length, 1)
  t.deepEqual(inventory.select(`b:${long('[')}`), [])
})
