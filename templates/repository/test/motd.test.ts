// Rehearses the playbook on this machine: each host of the inventory is a file in a folder of the test.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'node:test'
import { rehearse } from 'rekey/testing'

test('motd: written once, left alone the second time, taken back', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'motd-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'motd')
  writeFileSync(file, 'before\n')
  const motd = rehearse(join(import.meta.dirname, '../playbooks/motd.ts'), {
    inventory: { web: { hosts: { web1: { ansible_connection: 'local' } } } },
    vars: { message: 'Hello', motd_file: file },
  })
  t.after(() => motd.close())

  const checked = await motd.check()
  assert.equal(checked.errors, '')
  assert.equal(readFileSync(file, 'utf8'), 'before\n')

  const first = await motd.run()
  assert.equal(first.errors, '')
  assert.equal(first.outcomes['write-the-message']?.['web1'], 'changed')
  assert.equal(readFileSync(file, 'utf8'), 'web1\nHello\n')

  assert.deepEqual((await motd.run()).changed, [])

  const undone = await motd.rollback()
  assert.equal(undone.errors, '')
  assert.equal(readFileSync(file, 'utf8'), 'before\n')
})
