// YAML as Ansible reads it: texts of every kind, and what Ansible's loader makes of them (npm run test:update-ansible writes yaml.json).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readYaml } from '../rekey-inventory.ts'

interface Row {
  readonly text: string
  readonly value?: unknown
  readonly refused?: string
}

const rows = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'fixtures', 'yaml.json'), 'utf8')) as Row[]

test('what Ansible reads is read to the same values, with the same types and in the same order', t => {
  const readable = rows.filter(row => row.refused === undefined)
  t.true(readable.length > 600)
  for (const { text, value } of readable) t.deepEqual(readYaml(text), { value }, JSON.stringify(text))
})

test('what Ansible refuses is refused with its line', t => {
  const refused = rows.filter(row => row.refused !== undefined)
  t.true(refused.length > 200)
  for (const { text } of refused) {
    const read = readYaml(text)
    if ('refused' in read) t.regex(read.refused.message, /^\/file:\d+/)
    else t.fail(`${JSON.stringify(text)} is read`)
  }
})
