// Asks ansible-core what its modules do in the cases of test/operations/ansible: a play with all of them, on this machine, in a temporary folder.
// By itself for some of them: node scripts/ansible/operations.ts file lineInFile. With --new, only the cases that have no answer yet.
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import {
  type Case,
  type CaseFile,
  makeTree,
  standInEnvironment,
  type Tree,
  withFolder,
} from '../../test/operations/_cases.ts'
import { ansibleProgram, installAnsible, oracleEnvironment } from '../update-ansible-core.ts'
import { collectionsOf } from './collections.ts'

const root = join(import.meta.dirname, '..', '..')
const folder = join(root, 'test', 'operations', 'ansible')

/** Words that Ansible writes in one. */
const oneWord = new Set(['insertAfter', 'insertBefore', 'firstMatch'])

/** How Ansible writes an option. */
const spelled = (name: string) =>
  oneWord.has(name) ? name.toLowerCase() : name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)

/** What the callback writes of a task. */
interface Line {
  readonly case: number
  readonly phase: 'check' | 'first' | 'second'
  readonly tree: Tree
  readonly failed: boolean
  readonly skipped?: true
  readonly result: Readonly<Record<string, unknown>>
}

/**
 * Writes down the answers for all cases, or for those of some operations.
 * @param onlyNew cases that have an answer keep it
 */
export function updateOperations(only: readonly string[] = [], onlyNew = false): void {
  for (const name of readdirSync(folder).sort()) {
    if (only.length > 0 && !only.includes(basename(name, '.json'))) continue
    const path = join(folder, name)
    const file = JSON.parse(readFileSync(path, 'utf8')) as CaseFile
    const asked = file.cases.filter(one => one.by === undefined && !(onlyNew && one.ansible))
    const answers = file.module === undefined || asked.length === 0 ? [] : ask(file, asked)
    const cases = file.cases.map(one => {
      const answer = answers[asked.indexOf(one)]
      return answer ? { ...one, ansible: answer } : one
    })
    writeFileSync(path, JSON.stringify({ ...file, cases }))
    execFileSync(join(root, 'node_modules', '.bin', 'biome'), ['format', '--write', path], { cwd: root })
  }
}

function ask(file: CaseFile, cases: readonly Case[]): NonNullable<Case['ansible']>[] {
  const module = file.module!
  const work = mkdtempSync(join(tmpdir(), 'rekey-cases-'))
  try {
    mkdirSync(join(work, 'plugins'))
    copyFileSync(join(import.meta.dirname, 'callback.py'), join(work, 'plugins', 'rekey_cases.py'))
    process.umask(0o022)
    const tasks = cases.flatMap((one, index) => {
      const place = join(work, String(index))
      makeTree(place, one.before ?? {})
      const options = withFolder({ ...one.options, ...one.ansibleOptions }, place) as Record<string, unknown>
      const args = Object.fromEntries(
        Object.entries(options)
          .filter(([, value]) => value !== null)
          .map(([name, value]) => [spelled(name), value]),
      )
      return ['check', 'first', 'second'].map(phase => ({
        name: `${index} ${phase}`,
        [module]: args,
        check_mode: phase === 'check',
        diff: true,
        ignore_errors: true,
        vars: { ...one.vars, ansible_python_interpreter: ansibleProgram('python') },
        environment: { ...standInEnvironment(file, place), ...(withFolder(one.environment ?? {}, place) as object) },
      }))
    })
    // JSON is YAML. What stands in braces is the business of each case.
    writeFileSync(join(work, 'play.json'), JSON.stringify([{ hosts: 'h1', gather_facts: false, tasks }]))
    const { status, stdout, stderr } = spawnSync(
      ansibleProgram('ansible-playbook'),
      ['-i', 'h1,', '-c', 'local', 'play.json'],
      {
        cwd: work,
        encoding: 'utf8',
        env: oracleEnvironment({
          ANSIBLE_STDOUT_CALLBACK: 'rekey_cases',
          // Fewer processes for each task.
          ANSIBLE_PIPELINING: 'True',
          ANSIBLE_CALLBACK_PLUGINS: join(work, 'plugins'),
          REKEY_CASES: work,
          ...(file.archives ? { REKEY_ARCHIVES: 'yes' } : {}),
          ...collectionsOf(module),
        }),
      },
    )
    if (status !== 0) throw new Error(`ansible-playbook: ${stdout}${stderr}`)
    const lines = readFileSync(join(work, 'answers'), 'utf8').trim().split('\n')
    const said = lines.map(line => JSON.parse(line) as Line)
    return cases.map((one, index) =>
      answerOf(
        one,
        said.filter(line => line.case === index),
      ),
    )
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

function answerOf(one: Case, lines: readonly Line[]): NonNullable<Case['ansible']> {
  const [check, first, second] = ['check', 'first', 'second'].map(phase => lines.find(line => line.phase === phase))
  if (!check || !first || !second) throw new Error(`${one.about}: no answer`)
  const [diff] = [first.result['diff'] ?? []].flat() as { before?: unknown; after?: unknown }[]
  const texts = typeof diff?.before === 'string' && typeof diff.after === 'string' && diff.before !== diff.after
  return {
    ...(first.failed ? { failed: String(first.result['msg']) } : {}),
    check: check.failed ? 'failed' : check.skipped ? 'skipped' : check.result['changed'] === true,
    changed: first.result['changed'] === true,
    again: second.result['changed'] === true,
    after: first.tree,
    ...(texts ? { diff: { before: diff.before as string, after: diff.after as string } } : {}),
    ...(one.results
      ? { results: Object.fromEntries(one.results.map(name => [name, first.result[name] ?? null])) }
      : {}),
  }
}

if (process.argv[1] === import.meta.filename) {
  installAnsible()
  const words = process.argv.slice(2)
  updateOperations(
    words.filter(word => word !== '--new'),
    words.includes('--new'),
  )
}
