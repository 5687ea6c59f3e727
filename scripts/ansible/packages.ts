// Asks ansible-core's modules `apt` and `dnf` what they do in the cases of test/operations/packages.json and dnf.json: with the real apt and dnf,
// in roots of their own. As root, with Debian's python3-apt and dnf: node scripts/ansible/packages.ts
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { dnf } from '../../test/operations/_dnf.ts'
import { apt, type PackageCase, type Packaging, seeing } from '../../test/operations/_packages.ts'
import { installAnsible } from '../update-ansible-core.ts'
import { askLines, spelled } from './lines.ts'

const root = join(import.meta.dirname, '..', '..')
/** The one that Debian's python3-apt and python3-dnf are for. */
const python = '/usr/bin/python3'

/** Writes down the answers. Without root they stay as they are. */
export function updatePackages(): void {
  if (existsSync('/usr/lib/python3/dist-packages/apt')) update(apt, 'ansible.builtin.apt')
  else console.error('apt is not asked: there is no python3-apt')
  // Which dnf a host has is a fact, and this machine's is that it has apt. The packages are not signed.
  update(dnf, 'ansible.builtin.dnf', { use_backend: 'dnf4', disable_gpg_check: true })
}

function update(packaging: Packaging, module: string, more: Readonly<Record<string, unknown>> = {}): void {
  const { cases: path, missing, makeRoots, pointTo, place, stateOf } = packaging
  if (missing !== undefined) {
    console.error(`${module} is not asked: ${missing}`)
    return
  }
  const cases = JSON.parse(readFileSync(path, 'utf8')) as PackageCase[]
  const { folders, close } = makeRoots(cases)
  const work = mkdtempSync(join(tmpdir(), 'rekey-packages-asked-'))
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
        [module]: { ...args, ...more },
        ignore_errors: true,
        check_mode: phase === 'check',
        environment: pointTo(folder),
      })
      const [there, here] = place(folders[index + 1] ?? folder)
      const move = { name: `${index} move`, 'ansible.builtin.shell': `mount --bind ${there} ${here}` }
      return [one('check'), one('first'), one('second'), move]
    })
    const enter = seeing(packaging, folders[0]!)
    const said = askLines(work, tasks, { enter, vars: { ansible_python_interpreter: python } })
    const answered = cases.map((one, index) => {
      const [check, first, second] = ['check', 'first', 'second'].map(phase => said.get(`${index} ${phase}`))
      if (!check || !first || !second) throw new Error(`${one.about}: no answer`)
      return {
        ...one,
        ansible: {
          ...(first.failed ? { failed: true, error: first.error } : {}),
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
