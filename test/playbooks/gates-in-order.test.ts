// Rotations of what is behind KMS plugins, and of credentials: they can be looked at before they are run, undone after that, and their gates stand in order.
import { join } from 'node:path'
import test from 'ava'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { stepsOf } from '../../lib/playbook/steps.ts'

/** What must come before what, by the ids of steps. */
const orders: Record<string, readonly string[]> = {
  'rotate-kms-plugin': [
    'look-for-all-api-servers',
    'plan-the-key',
    'files-of-its-own',
    'place-what-it-is-made-of',
    'try-the-plugin',
    'same-key-everywhere',
    'add-the-key',
    'wait-to-read',
    'api-servers-have-its-key',
    'promote-the-key',
    'wait-to-write',
    'write-everything-anew',
    'count-before-the-drop',
    'old-plugin-logs-requests',
    'drop-the-old-key',
    'restart-one',
    'nobody-asks-the-old-plugin',
    'stop-its-unit',
    'well-without-the-old-plugin',
  ],
  'rotate-kms-key': [
    'look-for-all-api-servers',
    'plan-the-key',
    'try-the-plugin',
    'same-key-everywhere',
    'api-servers-have-the-key',
    'count-before',
    'try-the-key',
    'write-everything-anew',
    'count-after',
    'count-at-the-end',
  ],
  'rotate-hsm-key': [
    'look-for-all-api-servers',
    'plan-the-key',
    'look-into-the-token',
    'key-of-before',
    'keep-the-plugins-file',
    'decrypt-with-the-new-key',
    'promote-the-key',
    'same-key-everywhere',
    'write-everything-anew',
    'count-after',
    'restart-one',
    'count-at-the-end',
  ],
  'rotate-registry-credentials': [
    'read-the-new-credential',
    'look-at-the-node',
    'plan-the-files',
    'every-node-is-in-the-run',
    'find-what-holds-it',
    'note-where-the-log-is',
    'pull-without-a-credential',
    'the-old-one-is-taken',
    'pull-with-the-new-one-before',
    'put-it-into-secrets',
    'put-it-into-files',
    'pull-with-the-new-one-after',
    'count-what-has-the-old-one',
    'kubelets-have-forgotten',
    'nobody-asks-as-the-old-user',
    'count-again',
  ],
  'rotate-ipsec-key': [
    'find-cilium',
    'no-rotation-is-under-way',
    'note-dropped-packets',
    'make-the-key',
    'put-the-key-there',
    'restart-the-agents',
    'every-node-has-the-new-key',
    'no-node-has-the-old-key',
    'no-packets-were-dropped',
  ],
}

for (const [name, order] of Object.entries(orders)) {
  const { playbook } = await loadPlaybook(join(import.meta.dirname, `../../playbooks/${name}.ts`))
  const steps = playbook.plays.flatMap(play => stepsOf(play))

  test(`${name}: each step that changes something says what it would do, and is undone or says why not`, t => {
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

  test(`${name}: its gates stand in order`, t => {
    const places = order.map(id => steps.findIndex(one => one.id === id))
    t.true(
      places.every((place, index) => place >= 0 && (index === 0 || place > places[index - 1]!)),
      JSON.stringify(places),
    )
  })
}

test('whoever changes what a plugin encrypts with does so one master after the other', async t => {
  const { playbook } = await loadPlaybook(join(import.meta.dirname, '../../playbooks/rotate-hsm-key.ts'))
  const serial = playbook.plays.filter(one => one.serial === 1).flatMap(play => stepsOf(play).map(({ id }) => id))
  t.deepEqual(serial, ['look-into-the-token', 'decrypt-with-the-new-key', 'promote-the-key'])
})
