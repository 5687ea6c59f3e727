// Asks ansible-core's module `user` what it does in the cases of test/operations/users.json: by the real useradd, on accounts that are
// copies. As root: node scripts/ansible/users.ts
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canHaveUsers, makeUsers, runThere, stateOf, type UserCase } from '../../test/operations/_users.ts'
import { installAnsible } from '../update-ansible-core.ts'
import { askLines, spelled } from './lines.ts'

const root = join(import.meta.dirname, '..', '..')
const path = join(root, 'test', 'operations', 'users.json')

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
    const said = askLines(work, tasks, { enter: users.enter })
    const answered = cases.map((one, index) => {
      const [check, first, state, second] = ['check', 'first', 'state', 'second'].map(phase =>
        said.get(`${index} ${phase}`),
      )
      if (!check || !first || !state || !second) throw new Error(`${one.about}: no answer`)
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

if (process.argv[1] === import.meta.filename) {
  installAnsible()
  await updateUsers()
}
