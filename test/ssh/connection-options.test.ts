// Ansible's options for connecting and becoming another user, through the command line.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { type Workbench, workbench } from '../cli/_rekey.ts'
import { type BecomePrograms, becomePrograms, rightPassword } from './_become-programs.ts'
import { sshdMissing, startSshd, type TestSshd } from './sshd.ts'

const missing = sshdMissing()
const real = missing ? test.skip : test.serial
let sshd: TestSshd
let programs: BecomePrograms
let folder: string
let bench: Workbench

if (missing) test.skip(`options for connecting are not tested: ${missing}`, () => {})

test.before(async () => {
  if (missing) return
  folder = mkdtempSync(join(tmpdir(), 'rekey-options-'))
  programs = becomePrograms(folder)
  sshd = await startSshd(programs.configuration)
})
test.beforeEach(() => {
  programs?.reset()
  bench = workbench(sshd, ['h1', 'h2'])
})
test.after.always(async () => {
  await sshd?.stop()
  if (folder) rmSync(folder, { recursive: true, force: true })
})

const log = () => readFileSync(join(bench.folder, 'log'), 'utf8').trim().split('\n').sort()

/** Says of each host who it was there; the second step fails once a file is there. */
const whoAmI = () =>
  bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({
  name: 'who', summary: 'Who am I', vars: z.object({}),
  plays: [play('Who', { hosts: 'masters' }, [
    step('Say', { run: async ({ $, host }) => { await $\`echo \${host.name} is $BECAME >>${bench.folder}/log\` } }),
    step('Fail', { run: async ({ $ }) => { await $\`test ! -e ${bench.folder}/fail\` } }),
  ])],
})`)

/** Everything that a run keeps. */
const kept = () => execFileSync('cat', ['--', ...filesOf(bench.runs().at(-1)!)], { encoding: 'utf8' })
const filesOf = (run: string) =>
  execFileSync('find', [run, '-type', 'f'], { encoding: 'utf8' }).trim().split('\n').filter(Boolean)

real('-b -K asks once for all hosts; what was typed shows nowhere, and is asked for again to go on', async t => {
  const playbook = whoAmI()
  writeFileSync(join(bench.folder, 'fail'), '')
  const answers = [[/BECOME password: $/, rightPassword]] as const
  const first = await bench.onTerminal(
    ['run', playbook, '-i', bench.inventory, '-b', '-K', '--become-user', 'deploy'],
    answers,
  )
  t.is(first.code, 2, first.stdout)
  t.deepEqual(log(), ['h1 is deploy', 'h2 is deploy'])
  t.is(first.stdout.match(/BECOME password/g)?.length, 1)
  rmSync(join(bench.folder, 'fail'))
  const second = await bench.onTerminal(['resume', 'last', '--output', 'plain'], answers)
  t.is(second.code, 0, second.stdout)
  t.is(second.stdout.match(/BECOME password/g)?.length, 1)
  for (const text of [first.stdout, second.stdout, kept(), programs.calls().join()]) t.notRegex(text, /horse/)
})

for (const method of ['sudo', 'su'] as const) {
  real(
    `${method}: a wrong password is one clear error, tried once on the first host: exit 2, and nothing is done`,
    async t => {
      const become = ['-b', '-K', '--become-user', 'deploy', '--become-method', method]
      const args = ['run', whoAmI(), '-i', bench.inventory, ...become]
      const { code, stdout } = await bench.onTerminal(args, [[/BECOME password: $/, 'wrong pony']])
      t.is(code, 2, stdout)
      t.deepEqual(stdout.match(/Error: h\d: \w+ did not accept the password to become \w+/g), [
        `Error: h1: ${method} did not accept the password to become deploy`,
      ])
      t.regex(
        stdout,
        /Hint: It is the one of -K \(--ask-become-pass\) or ansible_become_password\. It was tried once\./,
      )
      t.notRegex(stdout + kept(), /pony/)
      t.is(programs.calls().length, 1, programs.calls().join('\n'))
      t.false(existsSync(join(bench.folder, 'log')))
    },
  )
}

/** Reads the command lines and environments of all processes of this machine, which is rekey's and its hosts', until it is stopped. */
function watchProcesses(): () => string {
  const seen = new Set<string>()
  const timer = setInterval(() => {
    for (const pid of readdirSync('/proc').filter(name => /^\d+$/.test(name) && Number(name) !== process.pid)) {
      for (const what of ['cmdline', 'environ']) {
        try {
          seen.add(readFileSync(`/proc/${pid}/${what}`, 'latin1'))
        } catch {
          // It has ended, or is another user's.
        }
      }
    }
  }, 20)
  return () => {
    clearInterval(timer)
    return [...seen].join('\n')
  }
}

real(
  'no secret is in a command line or an environment, here or on the hosts: of -K, of -e, made by steps, in files',
  async t => {
    const playbook = bench.playbook(`
import { copy, play, playbook, secret, step } from API
import { z } from ZOD
export default playbook({ name: 'secrets', summary: 'Secrets', vars: z.object({ word: z.string() }), plays: [play('Secrets', { hosts: 'masters' }, [
  step('Make', { run: async ctx => {
    const made = 'made-' + 'on-the-way-' + ctx.host.name
    await ctx.$({ input: secret(made) })\`sleep 1; cat >${bench.folder}/fed-\${ctx.host.name}\`
    await ctx.files.write('${bench.folder}/own-' + ctx.host.name, secret(made + ctx.vars.word))
    await copy(ctx, [{ path: '${bench.folder}/copy-' + ctx.host.name, content: secret(made + ctx.vars.word) }])
    return { made: secret(made) }
  } }),
  step('Use', { run: async ctx => { await ctx.$({ input: ctx.registered('make', ctx.host.name).made })\`sleep 1; cat >/dev/null\` } }),
])] })`)
    const variables = join(bench.folder, 'vars.json')
    writeFileSync(variables, JSON.stringify({ word: 'said-by-the-operator' }))
    const stop = watchProcesses()
    const { code, stdout } = await bench.onTerminal(
      ['run', playbook, '-i', bench.inventory, '-b', '-K', '--become-user', 'deploy', '-e', `@${variables}`],
      [[/BECOME password: $/, rightPassword]],
    )
    const seen = stop()
    t.is(code, 0, stdout)
    t.is(readFileSync(join(bench.folder, 'fed-h2'), 'utf8'), 'made-on-the-way-h2')
    t.is(readFileSync(join(bench.folder, 'copy-h1'), 'utf8'), 'made-on-the-way-h1said-by-the-operator')
    // It did see what commands do.
    t.regex(seen, /sleep 1; cat >/)
    for (const secret of [rightPassword, 'made-on-the-way', 'said-by-the-operator']) {
      t.false(seen.includes(secret), secret)
      t.false(seen.includes(Buffer.from(secret).toString('base64').slice(0, 16)), secret)
    }
  },
)

real('without a terminal, -K says what to do instead, and nothing is tried', async t => {
  const { code, stderr } = await bench.rekey(['run', whoAmI(), '-i', bench.inventory, '-b', '-K'])
  t.is(code, 1)
  t.regex(stderr, /^Error: there is no terminal to ask for this on: BECOME password\nHint: .*ansible_become_password/)
  t.deepEqual(bench.runs(), [])
})

real('a variable of the inventory wins over an option, which is said; -e wins over both', async t => {
  programs.allowEverybody()
  const become = ['-b', '--become-user', 'deploy']
  const all = join(bench.folder, 'group_vars', 'all.yml')
  writeFileSync(all, JSON.stringify({ ...JSON.parse(readFileSync(all, 'utf8')), ansible_become_user: 'www' }))
  const first = await bench.rekey(['run', whoAmI(), '-i', bench.inventory, ...become, '-u', 'nobody-knows'])
  t.is(first.code, 0, first.stdout + first.stderr)
  t.deepEqual(log(), ['h1 is www', 'h2 is www'])
  t.regex(
    first.stderr,
    /^-u is not used where the inventory sets ansible_user; -e ansible_user=nobody-knows wins over both$/m,
  )
  const args = ['run', whoAmI(), '-i', bench.inventory, ...become, '-e', 'ansible_become_user=extra', '-l', 'h1']
  t.is((await bench.rekey(args)).code, 0)
  t.true(log().includes('h1 is extra'))
})

real('-u and --private-key say as whom and with what, where the inventory does not', async t => {
  const all = join(bench.folder, 'group_vars', 'all.yml')
  const { ansible_user: user, ansible_ssh_private_key_file: key, ...rest } = JSON.parse(readFileSync(all, 'utf8'))
  writeFileSync(all, JSON.stringify(rest))
  const { code, stdout } = await bench.rekey(['run', whoAmI(), '-i', bench.inventory, '-u', user, '--private-key', key])
  t.is(code, 0, stdout)
})

real('a key that is encrypted is asked for once for all hosts', async t => {
  const locked = join(folder, 'locked')
  execFileSync('cp', [sshd.settings.privateKeyFile!, locked])
  execFileSync('ssh-keygen', ['-q', '-p', '-P', '', '-N', rightPassword, '-f', locked])
  const args = ['run', whoAmI(), '-i', bench.inventory, '-e', `ansible_ssh_private_key_file=${locked}`]
  const question = /Passphrase for .*locked: $/
  const { code, stdout } = await bench.onTerminal(args, [
    [question, 'wrong pony'],
    [question, rightPassword],
  ])
  t.is(code, 0, stdout)
  t.is(stdout.match(/Passphrase for/g)?.length, 2)
  t.notRegex(stdout + kept(), /horse|pony/)
  const { code: without, stderr } = await bench.rekey(args)
  t.is(without, 1)
  t.regex(stderr, /no terminal to ask for this on: Passphrase for/)
})
