// Asks ansible-core about tasks, by a callback that prints a line for each.
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ansibleProgram, oracleEnvironment } from '../update-ansible-core.ts'

/** How Ansible writes an option. */
export const spelled = (name: string): string => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)

/** What came of a task. */
export interface Line {
  readonly failed: boolean
  readonly changed: boolean
  readonly stdout: string
  /** What it says of a failure; empty where there is none. */
  readonly error: string
}

/** Where tasks are done otherwise than on this machine. */
export interface Asking {
  /** What comes before ansible-playbook's own command. */
  readonly enter?: readonly string[]
  /** The inventory and the way to its hosts. */
  readonly words?: readonly string[]
  readonly vars?: Readonly<Record<string, unknown>>
}

/**
 * Runs a play.
 * @param work a folder for it
 * @param tasks each with a name of its own
 * @returns what came of each, by its name, and on several hosts by `HOST NAME`
 */
export function askLines(
  work: string,
  tasks: readonly object[],
  { enter = [], words = ['-i', 'h1,', '-c', 'local'], vars = {} }: Asking = {},
): ReadonlyMap<string, Line> {
  mkdirSync(join(work, 'plugins'), { recursive: true })
  writeFileSync(join(work, 'plugins', 'rekey_lines.py'), callback)
  const all = { ansible_python_interpreter: ansibleProgram('python'), ...vars }
  const play = { hosts: 'all', gather_facts: false, strategy: 'free', vars: all, tasks }
  writeFileSync(join(work, 'play.json'), JSON.stringify([play]))
  const [program = '', ...more] = [...enter, ansibleProgram('ansible-playbook'), ...words, join(work, 'play.json')]
  const { stdout, stderr } = spawnSync(program, more, {
    encoding: 'utf8',
    env: oracleEnvironment({
      ANSIBLE_CALLBACK_PLUGINS: join(work, 'plugins'),
      ANSIBLE_STDOUT_CALLBACK: 'rekey_lines',
      // Fewer processes for each task.
      ANSIBLE_PIPELINING: 'True',
      ANSIBLE_FORKS: '20',
    }),
  })
  const lines = stdout.split('\n').filter(line => line.startsWith('{'))
  if (lines.length === 0) throw new Error(`ansible-playbook: ${stdout}${stderr}`)
  const said = lines.map(line => JSON.parse(line) as Line & { host: string; name: string })
  const isOne = new Set(said.map(({ host }) => host)).size === 1
  return new Map(said.map(({ host, name, ...line }) => [isOne ? name : `${host} ${name}`, line]))
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
        error = '\\n'.join([str(found.get('msg', '')), *map(str, found.get('failures', []))]) if failed else ''
        print(json.dumps({'host': result._host.get_name(), 'name': result._task.get_name(), 'failed': failed, 'changed': found.get('changed', False) is True, 'stdout': str(found.get('stdout', '')), 'error': error}))
    def v2_runner_on_ok(self, result):
        self.say(result, False)
    def v2_runner_on_skipped(self, result):
        self.say(result, False)
    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.say(result, True)
`
