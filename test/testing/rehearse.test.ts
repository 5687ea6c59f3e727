// The door `rekey/testing`: what a rehearsal tells of a playbook that goes well, and of one that does not.
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { rehearse } from '../../lib/testing/index.ts'
import { temporaryFolder } from '../_temporary.ts'

const text = `import { play, playbook, step } from 'rekey'
import { z } from 'zod'
export default playbook({ name: 'x', summary: 'x', vars: z.object({ folder: z.string() }), plays: [play('P', { hosts: 'all' }, [
  step('Make it', {
    check: async ({ $, host, vars }) => (await $({ nothrow: true })\`test -e \${vars.folder}/\${host.name}\`).exitCode === 0,
    plan: () => 'make the file',
    run: async ({ $, host, vars }) => { await $\`touch \${vars.folder}/\${host.name}\` },
    rollback: async ({ $, host, vars }) => { await $\`rm \${vars.folder}/\${host.name}\` },
  }),
  step('Mind it', { run: async ({ $, host }) => { await $\`test \${host.name} != bad\` } }),
])] })
`

function stage(...hosts: string[]) {
  const folder = temporaryFolder('rehearsal')
  const file = join(folder, 'x.ts')
  writeFileSync(file, text)
  const local = Object.fromEntries(hosts.map(host => [host, { ansible_connection: 'local' }]))
  return { folder, of: rehearse(file, { inventory: { web: { hosts: local } }, vars: { folder } }) }
}

test('a rehearsal tells what each step would do and did on each host, and takes it back', async t => {
  const { folder, of } = stage('w1', 'w2')
  await t.throwsAsync(of.rollback(), { message: 'there is no run to undo' })
  const checked = await of.check()
  t.true(checked.planned.includes('make-it on w1: make the file'))
  t.false(existsSync(join(folder, 'w1')))
  const first = await of.run()
  t.like(first, { code: 0, ok: true, errors: '' })
  t.deepEqual(first.outcomes['make-it'], { w1: 'changed', w2: 'changed' })
  const files = await of.files('w1')
  t.is(await files.readText(join(folder, 'w1')), '')
  t.false(await files.exists(join(folder, 'w3')))
  await t.throwsAsync(of.files('w3'), { message: /no host 'w3'|w3/ })
  t.true((await of.rollback()).ok)
  t.false(existsSync(join(folder, 'w1')))
  t.true((await of.run()).ok)
  const second = await of.run()
  t.deepEqual(second.outcomes['make-it'], { w1: 'ok', w2: 'ok' })
  t.deepEqual([...second.changed].sort(), ['mind-it on w1', 'mind-it on w2'])
  of.close()
})

test('what goes wrong is its code, its outcome and a text; so is what keeps it from beginning', async t => {
  const { of } = stage('w1', 'bad')
  const { code, ok, outcomes, errors } = await of.run()
  t.deepEqual([code, ok, outcomes['mind-it']], [2, false, { w1: 'changed', bad: 'failed' }])
  t.regex(errors, /^a command ended with exit status 1/)
  of.close()
  const { folder } = stage()
  const missing = await rehearse(join(folder, 'x.ts'), { inventory: join(folder, 'nowhere') }).run()
  t.deepEqual([missing.code, missing.events], [1, []])
  t.regex(missing.errors, /nowhere/)
  // A step would get either of the two, and nobody would be told which.
  const file = join(folder, 'service.ts')
  writeFileSync(file, text.replace('plays: [', "services: () => ({ step: 'mine' }), plays: ["))
  const taken = await rehearse(file, {
    inventory: { web: { hosts: { w1: { ansible_connection: 'local' } } } },
    vars: { folder },
  }).run()
  t.false(taken.ok)
  t.regex(taken.errors, /a service of a playbook can't be called 'step'/)
})
