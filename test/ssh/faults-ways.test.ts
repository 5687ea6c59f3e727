// A link that is cut, whichever way its host is reached and whoever its commands become: by the system's ssh, by sudo, by both, in
// place of another host.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { type Workbench, workbench } from '../cli/_rekey.ts'
import { becomePrograms, rightPassword } from './_become-programs.ts'
import { until } from './_faults.ts'
import { type Link, openLink } from './proxy.ts'
import { sshdMissing, startSshd, type TestSshd, terminalMissing } from './sshd.ts'

const missing = sshdMissing()
const test = anyTest as TestFn<{ sshd: TestSshd; link: Link; bench: Workbench; folder: string }>
const real = missing ? test.skip : test.serial

if (missing) test.skip(`faults are not tested: ${missing}`, () => {})

test.beforeEach(async t => {
  if (missing) return
  t.context.folder = mkdtempSync(join(tmpdir(), 'rekey-ways-'))
  t.context.sshd = await startSshd(becomePrograms(t.context.folder).configuration)
  t.context.link = await openLink(t.context.sshd)
  t.context.bench = workbench(t.context.link.sshd, ['h1', 'h2'])
})
test.afterEach.always(async t => {
  t.context.link?.stop()
  await t.context.sshd?.stop()
  if (t.context.folder) rmSync(t.context.folder, { recursive: true })
})

/** A playbook of one step on h1 that says begun, goes on when it is told to, and ends as the folder says. */
const playbookOf = (folder: string, more = '') => `
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}), plays: [play('Work', { hosts: 'h1' }, [
  step('Work', { ${more} run: ({ $ }) => $\`echo begun; ${until(`${folder}/go`)}; echo later; echo ran as $BECAME >>${folder}/log; [ ! -e ${folder}/fail ]\` }),
  step('After', { run: ({ $ }) => $\`echo after >>${folder}/log\` }),
])] })`

/** Cuts the link in mid-command, and lets the command end once it is waited for. */
async function cutIn({ bench, link }: { bench: Workbench; link: Link }, path: string, host = 'h1') {
  return bench.rekey(['run', path, '-i', bench.inventory, '-v'], {
    onLine: line => {
      if (line.endsWith('h1 | begun')) link.cut()
      if (line.includes(`${host}: the command still runs there`)) bench.touch('go')
    },
  })
}

const logOf = ({ folder }: Workbench) => readFileSync(join(folder, 'log'), 'utf8').trim().split('\n')

const sudo = { ansible_become: true, ansible_become_user: 'deploy', ansible_become_password: rightPassword }

for (const [way, variables] of [
  ["the system's ssh", { ansible_connection: 'openssh' }],
  ['sudo with a password', sudo],
  ["the system's ssh and sudo", { ansible_connection: 'openssh', ...sudo }],
] as const) {
  real(`by ${way}, a command that goes on while the link is cut is waited for, and its status taken`, async t => {
    const { bench } = t.context
    bench.set(variables)
    const path = bench.playbook(playbookOf(bench.folder))
    const { code, stdout, stderr } = await cutIn(t.context, path)
    t.is(code, 0, stdout + stderr)
    t.regex(stdout, /h1: connected again after/)
    t.regex(stdout, /h1 \| later\n/)
    t.deepEqual(logOf(bench), ['ansible_become' in variables ? 'ran as deploy' : 'ran as', 'after'])
    t.false((stdout + stderr).includes(rightPassword))
  })
}

const withTerminal = terminalMissing() ? test.skip : real
if (terminalMissing()) test.skip(`doas is not tested: ${terminalMissing()}`, () => {})

withTerminal(
  'by doas with a password, which takes a terminal that is gone with the link, it stays unknown: exit 4',
  async t => {
    const { bench } = t.context
    bench.set({ ...sudo, ansible_become_method: 'doas' })
    const { code, stdout } = await cutIn(t.context, bench.playbook(playbookOf(bench.folder)))
    t.is(code, 4, stdout)
    t.regex(stdout, /unknown +Work \[h1\].*nobody knows whether it finished/)
    bench.touch('go')
  },
)

real(
  'a step that is delegated is waited for where it runs; its failure is that of the host that it is done for',
  async t => {
    const { bench, sshd } = t.context
    // h1 is reached without the link, which only h2 needs.
    const direct = `ansible_port: ${sshd.port}, ansible_ssh_common_args: '-o UserKnownHostsFile=${sshd.settings.knownHostsFiles?.[0]}'`
    const all = readFileSync(bench.inventory, 'utf8')
    writeFileSync(bench.inventory, all.replace('h1:', `h1: { ${direct} }`))
    const path = bench.playbook(playbookOf(bench.folder, `delegateTo: 'h2',`))
    const { code, stdout } = await cutIn(t.context, path, 'h2')
    t.is(code, 0, stdout)
    t.regex(stdout, /h2: the connection was lost/)
    t.notRegex(stdout, /h1: the connection was lost/)
    t.regex(stdout, /changed +Work \[h1 -> h2\]/)
    writeFileSync(join(bench.folder, 'fail'), '')
    const failed = await cutIn(t.context, path, 'h2')
    t.is(failed.code, 2, failed.stdout)
    t.regex(failed.stdout, /failed +Work \[h1 -> h2\].*ended with exit status 1/)
  },
)
