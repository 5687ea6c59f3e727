// The rotation of the key that values are encrypted with: it can be looked at before it is run, undone after it, and its gates stand in order.
import { join } from 'node:path'
import test from 'ava'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { stepsOf } from '../../lib/playbook/steps.ts'

const { playbook } = await loadPlaybook(join(import.meta.dirname, '../../playbooks/rotate-encryption-key.ts'))
const steps = playbook.plays.flatMap(play => stepsOf(play))
const at = (id: string) => steps.findIndex(one => one.id === id)

test('each step that changes something says what it would do, and is undone or says why not', t => {
  const undone = playbook.plays.filter(({ rollback }) => rollback).flatMap(play => stepsOf(play))
  const changing = steps.filter(({ readOnly }) => !readOnly)
  t.deepEqual(
    changing.filter(({ plan }) => !plan).map(({ id }) => id),
    [],
  )
  t.deepEqual(
    changing
      .filter(one => !one.rollback && one.irreversible === undefined && !one.undoneWith && !undone.includes(one))
      .map(({ id }) => id),
    [],
  )
  t.true(steps.every(({ undoneWith }) => undoneWith === undefined || undone.some(({ id }) => id === undoneWith)))
})

test('nobody writes with a key before everybody reads with it, and none is dropped before it was counted', t => {
  const order = [
    'add-the-key',
    'wait-to-read',
    'promote-the-key',
    'wait-to-write',
    'write-everything-anew',
    'count-before-the-drop',
    'same-files-to-drop',
    'drop-the-old-key',
    'wait-to-drop',
    'restart-one',
  ]
  const places = order.map(at)
  t.true(
    places.every((place, index) => place >= 0 && (index === 0 || place > places[index - 1]!)),
    JSON.stringify(places),
  )
  t.true(['wait-to-read', 'wait-to-write', 'count-before-the-drop'].every(id => steps[at(id)]!.readOnly))
})
