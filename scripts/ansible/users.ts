// Asks ansible-core's module `user` what it does in the cases of test/operations/users.json: by the real useradd, on accounts that are
// copies. As root: node scripts/ansible/users.ts
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canHaveUsers, makeUsers, runThere, stateOf, type UserCase } from '../../test/operations/_users.ts'
import { ansibleProgram, installAnsible, oracleEnvironment } from '../update-ansible-core.ts'

const root = join(import.meta.dirname, '..', '..')
const path = join(root, 'test', 'operations', 'users.json')
const spelled = (name: string) => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)

/** Writes down the answers. Without root they stay as they are. */
export async function updateUsers(): Promise<void> {
  if (!canHaveUsers) return console.error('accounts are not asked for: that takes root, and useradd')
  const cases = JSON.parse(readFileSync(path, 'utf8')) as UserCase[]
  const users = await makeUsers()
  const work = mkdtempSync(join(tmpdir(), 'rekey-users-'))
  try {
    for (const { before } of cases) for (const command of before) runThere(users, command)
    const tasks = cases.flatMap(({ options }, index) => {
      const args = Object.fromEntries(Object.entries(options).map(([name, value]) => [spelled(name), value]))
      const one = (phase: string) => ({
        name: `${index} ${phase}`,
        'ansible.builtin.user': args,
        ignore_errors: true,
        check_mode: phase === 'check',
      })
      const state = { name: `${index} state`, 'ansible.builtin.shell': stateOf(options.name), ignore_errors: true }
      return [one('check'), one('first'), state, one('second')]
    })
    const vars = { ansible_python_interpreter: ansibleProgram('python') }
    writeFileSync(join(work, 'play.json'), JSON.stringify([{ hosts: 'h1', gather_facts: false, vars, tasks }]))
    const words = [
      ...users.enter.slice(1),
      ansibleProgram('ansible-playbook'),
      '-i',
      'h1,',
      '-c',
      'local',
      join(work, 'play.json'),
    ]
    const env = oracleEnvironment({
      ANSIBLE_STDOUT_CALLBACK: 'ansible.builtin.json',
      ANSIBLE_CALLBACK_PLUGINS: join(work, 'plugins'),
    })
    execFileSync('mkdir', [join(work, 'plugins')])
    writeFileSync(join(work, 'plugins', 'rekey_lines.py'), callback)
    const { stdout, stderr } = spawnSync(users.enter[0]!, words, {
      encoding: 'utf8',
      env: { ...env, ANSIBLE_STDOUT_CALLBACK: 'rekey_lines' },
    })
    const said = new Map(
      stdout
        .split('\n')
        .filter(line => line.startsWith('{'))
        .map(line => {
          const { name, ...result } = JSON.parse(line) as {
            name: string
            failed: boolean
            changed: boolean
            stdout: string
          }
          return [name, result] as const
        }),
    )
    const answered = cases.map((one, index) => {
      const [check, first, state, second] = ['check', 'first', 'state', 'second'].map(phase =>
        said.get(`${index} ${phase}`),
      )
      if (!check || !first || !state || !second) throw new Error(`${one.about}: no answer: ${stdout}${stderr}`)
      const { changed } = first
      return {
        ...one,
        ansible: {
          ...(first.failed ? { failed: true } : {}),
          check: check.changed,
          changed,
          again: second.changed,
          after: state.stdout.trim(),
        },
      }
    })
    writeFileSync(path, JSON.stringify(answered))
    execFileSync(join(root, 'node_modules', '.bin', 'biome'), ['format', '--write', path], { cwd: root })
  } finally {
    users.close()
    rmSync(work, { recursive: true, force: true })
  }
}

const callback = `import json
from ansible.plugins.callback import CallbackBase
DOCUMENTATION = 'name: rekey_lines\\ntype: stdout\\nshort_description: x\\ndescription: x\\n'
class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'stdout'
    CALLBACK_NAME = 'rekey_lines'
    def say(self, result, failed):
        found = result._result
        print(json.dumps({'name': result._task.get_name(), 'failed': failed, 'changed': found.get('changed', False) is True, 'stdout': str(found.get('stdout', ''))}))
    def v2_runner_on_ok(self, result):
        self.say(result, False)
    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.say(result, True)
`

if (process.argv[1] === import.meta.filename) {
  installAnsible()
  await updateUsers()
}
