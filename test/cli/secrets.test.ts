// Secrets of a run, from whoever made them to everything that is shown or kept; and what a run lives by, whatever its secrets are.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Vault as Cipher } from 'ansible-vault'
import test from 'ava'
import { workbench } from './_rekey.ts'

const inTheVault = 'encrypted-in-the-inventory'
const vaulted = () => new Cipher({ password: 'a password for it' }).encryptSync(inTheVault, undefined as never)

test.serial('whoever made a secret, no secret stands in what is shown and kept, nor on stderr', async t => {
  const bench = workbench('local', ['h1'])
  writeFileSync(join(bench.folder, 'password'), 'a password for it\n')
  writeFileSync(
    join(bench.folder, 'group_vars', 'masters.yml'),
    `in_vault: !vault |\n${vaulted().replace(/^/gm, '  ')}\n`,
  )
  const playbook = bench.playbook(`
import { play, playbook, secret, secretText, step } from API
import { z } from ZOD
const made = ['made-while', 'it-was-loaded'].join('-')
secret(made)
export default playbook({ name: 'secrets', summary: 'Has ' + made, vars: z.object({ in_vault: z.string(), given: secretText() }),
  report: () => [{ title: 'Told', rows: [['what', made]] }],
  plays: [play('All', { hosts: 'masters' }, [
    step('Print', { run: async ({ $, vars, log }) => {
      const all = [made, vars.in_vault, vars.given.reveal(), process.env.SOME_TOKEN]
      for (const one of all) {
        for (const text of [one, JSON.stringify({ one }), Buffer.from('user:' + one).toString('base64'), one.slice(0, 5) + '\\x1b[0m' + one.slice(5)])
          await $({ input: text + '\\n' })\`cat; echo \${'err ' + encodeURIComponent(one)} >&2\`
        log('told: ' + one)
      }
      return { kept: made }
    } }),
    step('Fail', { ignoreErrors: true, run: ({ $, vars }) => $({ input: vars.in_vault })\`cat >&2; exit 3\` }),
    step('Throw', { plan: () => 'write ' + made, run: ({ vars }) => { throw new Error('no login with ' + vars.given.reveal()) } }),
  ])] })`)
  const { code, stdout, stderr } = await bench.rekey(
    [
      'run',
      playbook,
      '-i',
      bench.inventory,
      '--vault-password-file',
      'password',
      '-e',
      'given=given-with-minus-e',
      '-v',
      '--junit',
      'report.xml',
    ],
    { env: { SOME_TOKEN: 'of-the-environment' } },
  )
  t.is(code, 2, stdout + stderr)
  const secrets = ['made-while-it-was-loaded', inTheVault, 'given-with-minus-e', 'of-the-environment']
  const forms = secrets.flatMap(one => [one, Buffer.from(`user:${one}`).toString('base64')])
  const folder = bench.runs()[0] ?? ''
  const kept = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile() && !entry.parentPath.endsWith('/secrets'))
    .map(({ parentPath, name }) => [name, readFileSync(join(parentPath, name), 'utf8')] as const)
  t.true(kept.length >= 4)
  const texts = [
    ['shown', stdout + stderr],
    ['report.xml', readFileSync(join(bench.folder, 'report.xml'), 'utf8')],
    ...kept,
  ]
  for (const [name, text = ''] of texts) {
    const plain = text.replaceAll(/\x1b\[0m|\\u001b\[0m/g, '')
    for (const form of forms) t.false(plain.includes(form), `${form} in ${name}`)
  }
  t.is(stdout.match(/h1 \| «redacted»\n/g)?.length, 13, stdout)
  t.regex(stdout, /Error: h1: no login with «redacted»/)
  t.regex(stdout, /ignored +Fail \[h1\].*: «redacted»\n/)
  // What went wrong before there was a run.
  const broken = bench.playbook(
    `import { secret } from API\nsecret('told-before-it-broke')\nthrow new Error('told-before-it-broke')`,
  )
  const early = await bench.rekey(['run', broken, '-i', bench.inventory])
  t.is(early.code, 1)
  t.regex(early.stderr, /«redacted»/)
  t.notRegex(early.stderr, /told-before/)
})

test.serial(
  'names and ids stay what they are though a secret is part of them: resume and rollback know their steps and hosts',
  async t => {
    const bench = workbench('local', ['kubernetes-m1', 'kubernetes-m2'])
    bench.set({ ansible_password: 'kubernetes' })
    const note = (what: string) => `async ({ $, host }) => { await $\`echo ${what} >>${bench.folder}/\${host.name}\` }`
    const playbook = bench.playbook(`
import { play, playbook, step } from API
import { existsSync } from 'node:fs'
import { z } from ZOD
export default playbook({ name: 'swap', summary: 'Swaps', vars: z.object({}), plays: [play('P', { hosts: 'masters' }, [
  step('Tell', { readOnly: true, run: ({ redact }) => { redact('swap-files'); redact('swap') } }),
  step('Swap files', { run: ${note('swapped')}, rollback: ${note('undone')} }),
  step('Last', { run: () => { if (!existsSync('${bench.folder}/go')) throw new Error('the host kubernetes-m1 is not ready for swap-files') } }),
])] })`)
    const first = await bench.rekey(['run', playbook, '-i', bench.inventory])
    t.is(first.code, 2)
    t.regex(first.stdout, /failed +Last \[kubernetes-m1\] .*: the host «redacted»-m1 is not ready for «redacted»/)
    bench.touch('go')
    t.is((await bench.rekey(['resume', 'last'])).code, 0)
    const done = () => ['kubernetes-m1', 'kubernetes-m2'].map(host => readFileSync(join(bench.folder, host), 'utf8'))
    t.deepEqual(done(), ['swapped\n', 'swapped\n'])
    t.is((await bench.rekey(['rollback', 'last'])).code, 0)
    t.deepEqual(done(), ['swapped\nundone\n', 'swapped\nundone\n'])
  },
)

test.serial('a rollback that finds nothing to undo where something was done is an error', async t => {
  const bench = workbench('local', ['h1'], true)
  const source = (id: string) => `
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'x', summary: 'x', vars: z.object({}), plays: [play('P', { hosts: 'masters' }, [
  step('Change', { id: '${id}', run: ({ $ }) => $\`touch ${bench.folder}/changed\`, rollback: ({ $ }) => $\`rm ${bench.folder}/changed\` }),
])] })`
  t.is((await bench.rekey(['run', bench.playbook(source('change')), '-i', bench.inventory])).code, 0)
  const other = ['--playbook', bench.playbook(source('another-id')), '--accept-changed-playbook']
  const lost = await bench.rekey(['rollback', 'last', ...other])
  t.is(lost.code, 1, lost.stdout)
  t.regex(
    lost.stderr,
    /nothing of what \S+ did can be undone:\n +stays done on h1: change \(no step of the playbook has this id any more\)/,
  )
  t.true(existsSync(join(bench.folder, 'changed')))
  t.is((await bench.rekey(['rollback', 'last'])).code, 0)
  t.false(existsSync(join(bench.folder, 'changed')))
})
