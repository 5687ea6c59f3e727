// Inventories that somebody else wrote: whatever stands in them, they are read or refused in one error, and soon.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { RekeyError } from '../../../lib/errors.ts'
import { tries } from '../../_fuzz.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { rekeyInventory } from '../rekey-inventory.ts'

const folder = temporaryFolder('hostile-inventory')
/** Milliseconds of the processor that one inventory of a few kilobytes may take. */
const soon = 5_000

const piece = fc.constantFrom(
  ...['[', ']', '[all:vars]', '[a:children]', '[a]', ':', '=', ' ', '\n', '\t', '\r\n', '#', ';', '"', "'", '\\', ','],
  ...['h1', 'h[1:3]', 'h[01:999999999]', 'h[a:z]', '{{ x }}', '{% for i in x %}', '{#', '}}', '{{', '|', '&', '*', '!'],
  ...[
    'ansible_host=',
    'ansible_port=99999999999',
    '\x00',
    '\x1b[2J',
    '\u2028',
    '\ufeff',
    'é',
    '\ud800',
    '-',
    '---',
    '...',
  ],
  ...[
    '? ',
    '- ',
    '<<: ',
    '*a',
    '&a ',
    '!!python/object ',
    '!vault |',
    '$ANSIBLE_VAULT;1.1;AES256',
    '1:30',
    '0o7',
    '~',
    '__proto__',
  ],
  ...['hosts:', 'children:', 'vars:', 'all:', '  ', '    ', '{', '}', 'constructor', 'toString: ', '9'.repeat(400)],
)
const text = fc.oneof(
  fc.array(piece, { maxLength: 60 }).map(pieces => pieces.join('')),
  fc
    .array(fc.tuple(fc.nat(6), piece, piece), { maxLength: 30 })
    .map(lines => lines.map(([depth, key, value]) => `${' '.repeat(depth)}${key}: ${value}`).join('\n')),
  fc.tuple(piece, fc.integer({ min: 1, max: 2_000 })).map(([one, times]) => one.repeat(times)),
)
const file = fc.constantFrom('hosts', 'hosts.yml', 'hosts.ini', 'hosts.json', 'hosts.toml', 'a.constructed.yml')
const beside = fc.constantFrom(
  'group_vars/all.yml',
  'host_vars/h1',
  'group_vars/all/x.json',
  'ansible.cfg',
  'group_vars/a',
)
const words = fc.constantFrom([], ['--graph'], ['--yaml'], ['--host', 'h1'], ['--export'], ['--limit', 'h1:!a'])

test.serial('whatever stands in the files of an inventory, it is read or refused in one error, and soon', async t => {
  t.timeout(60 * 60_000)
  const property = fc.asyncProperty(
    file,
    text,
    beside,
    text,
    words,
    async (name, inventory, other, variables, args) => {
      const cwd = join(folder, 'one')
      mkdirSync(join(cwd, dirname(other)), { recursive: true })
      writeFileSync(join(cwd, name), inventory)
      writeFileSync(join(cwd, other), variables)
      const began = process.cpuUsage()
      try {
        await rekeyInventory(['-i', name, ...(args.length === 0 || args[0] === '--limit' ? ['--list'] : []), ...args], {
          cwd,
        })
      } catch (error) {
        if (!(error instanceof RekeyError)) throw error
      } finally {
        rmSync(cwd, { recursive: true })
      }
      const { user, system } = process.cpuUsage(began)
      const took = (user + system) / 1_000
      if (took > soon) throw new Error(`it took ${Math.round(took)} ms`)
    },
  )
  await fc.assert(property, tries(150))
  t.pass()
})
