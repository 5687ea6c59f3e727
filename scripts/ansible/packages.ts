// Asks ansible-core's module `apt` what it does in the cases of test/operations/packages.json: with the real apt, in roots of their own. As root,
// with Debian's python3-apt: node scripts/ansible/packages.ts
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  canHavePackages,
  makeRoots,
  type PackageCase,
  pointTo,
  seeing,
  stateOf,
} from '../../test/operations/_packages.ts'
import { installAnsible } from '../update-ansible-core.ts'
import { askLines, spelled } from './lines.ts'

const root = join(import.meta.dirname, '..', '..')
const path = join(root, 'test', 'operations', 'packages.json')
/** The one that Debian's python3-apt is for. */
const python = '/usr/bin/python3'

/** Writes down the answers. Without root they stay as they are. */
export function updatePackages(): void {
  if (!canHavePackages || !existsSync('/usr/lib/python3/dist-packages/apt')) {
    console.error('packages are not asked for: that takes root, apt and python3-apt')
    return
  }
  const cases = JSON.parse(readFileSync(path, 'utf8')) as PackageCase[]
  const { folders, close } = makeRoots(cases)
  const work = mkdtempSync(join(tmpdir(), 'rekey-apt-'))
  try {
    const tasks = cases.flatMap(({ options, ansibleOptions }, index) => {
      const folder = folders[index]!
      const args = Object.fromEntries(
        Object.entries({ ...options, ...ansibleOptions })
          .filter(([, value]) => value !== null)
          .map(([name, value]) => [spelled(name), value]),
      )
      const one = (phase: string) => ({
        name: `${index} ${phase}`,
        'ansible.builtin.apt': args,
        ignore_errors: true,
        check_mode: phase === 'check',
        environment: pointTo(folder),
      })
      const next = folders[index + 1] ?? folder
      const move = {
        name: `${index} move`,
        'ansible.builtin.shell': `mount --bind ${next}/root/var/lib/apt /var/lib/apt`,
      }
      return [one('check'), one('first'), one('second'), move]
    })
    const said = askLines(work, tasks, { enter: seeing(folders[0]!), vars: { ansible_python_interpreter: python } })
    const answered = cases.map((one, index) => {
      const [check, first, second] = ['check', 'first', 'second'].map(phase => said.get(`${index} ${phase}`))
      if (!check || !first || !second) throw new Error(`${one.about}: no answer`)
      return {
        ...one,
        ansible: {
          ...(first.failed ? { failed: true } : {}),
          check: check.failed ? 'failed' : check.changed,
          changed: first.changed,
          again: second.changed,
          after: stateOf(folders[index]!),
        },
      }
    })
    writeFileSync(path, JSON.stringify(answered))
    execFileSync(join(root, 'node_modules', '.bin', 'biome'), ['format', '--write', path], { cwd: root })
  } finally {
    close()
    rmSync(work, { recursive: true, force: true })
  }
}

if (process.argv[1] === import.meta.filename) {
  installAnsible()
  updatePackages()
}
