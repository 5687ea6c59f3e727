// ansible-core in a folder of its own, and one of its processes to ask: the oracle of the inventory tests.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { jsonText } from '../lib/inventory/python/python-json.ts'
import { Dict, isMapping, type Value } from '../lib/inventory/values.ts'

/** The version whose answers are stored. A newer one: change it here, run `npm run test:update-ansible`, read the diff. */
export const ansibleVersion = '2.19.14'
/** The newest that merges `<<` as all before it did: 6.0.4 takes the last of several maps where those took the first. */
const pyYamlVersion = '6.0.3'

const folder = join(homedir(), '.cache', 'rekey', `ansible-${ansibleVersion}`)

/** The path of one of ansible-core's programs. */
export const ansibleProgram = (name: string): string => join(folder, 'bin', name)

/** True when the pinned version is there. */
export const ansibleInstalled = (): boolean => existsSync(ansibleProgram('ansible-inventory'))

/** Installs the pinned version with Python's own tools, unless it is there. Python 3.11 or later is needed. */
export function installAnsible(): void {
  if (ansibleInstalled()) return
  console.log(`installing ansible-core ${ansibleVersion} into ${folder}`)
  execFileSync('python3', ['-m', 'venv', folder], { stdio: 'inherit' })
  execFileSync(
    ansibleProgram('pip'),
    ['install', '--quiet', `ansible-core==${ansibleVersion}`, `PyYAML==${pyYamlVersion}`],
    { stdio: 'inherit' },
  )
}

export interface OracleAnswer {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export type OracleJob = {
  readonly inventory: { readonly kind: 'inventory'; readonly args: string[]; readonly cwd: string }
  readonly patterns: {
    readonly kind: 'patterns'
    readonly sources: string[]
    readonly cwd: string
    readonly patterns: (string | null)[][]
  }
  readonly templates: {
    readonly kind: 'templates'
    readonly cwd: string
    readonly variables: Value
    readonly templates: string[]
  }
  readonly yaml: { readonly kind: 'yaml'; readonly texts: readonly string[] }
  readonly tags: { readonly kind: 'tags'; readonly own: string[][]; readonly asked: string[][][] }
}[Kind]
type Kind = 'inventory' | 'patterns' | 'templates' | 'tags' | 'yaml'

export interface Oracle {
  ask(job: OracleJob): Promise<OracleAnswer>
  close(): void
}

/** The environment in which Ansible is asked: no configuration but its defaults, no colours. */
export function oracleEnvironment(own: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const configuration = join(mkdtempSync(join(tmpdir(), 'rekey-oracle-')), 'ansible.cfg')
  writeFileSync(configuration, '')
  const { PATH, HOME } = process.env
  return {
    PATH,
    HOME,
    LC_ALL: 'C.UTF-8',
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_DEPRECATION_WARNINGS: 'False',
    ANSIBLE_CONFIG: configuration,
    ...own,
  }
}

/** Starts a process that has ansible-core loaded and answers jobs one by one. */
export function startOracle(): Oracle {
  const script = join(import.meta.dirname, 'update-ansible-oracle.py')
  const child: ChildProcess = spawn(ansibleProgram('python'), [script], {
    env: oracleEnvironment(),
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const waiting: ((answer: OracleAnswer) => void)[] = []
  createInterface({ input: child.stdout! }).on('line', line => waiting.shift()?.(JSON.parse(line) as OracleAnswer))
  return {
    ask: job =>
      new Promise((resolve, reject) => {
        waiting.push(resolve)
        child.stdin!.write(`${jsonText(asValue(job))}\n`, error => error && reject(error))
      }),
    close: () => void child.stdin!.end(),
  }
}

/** What is written in JavaScript as a value of an inventory; values that are ones already stay as they are. */
export function asValue(plain: unknown): Value {
  if (Array.isArray(plain)) return plain.map(asValue)
  if (Object.getPrototypeOf(plain ?? 0) !== Object.prototype || isMapping(plain)) return plain as Value
  return Dict.of(Object.entries(plain as object).map(([key, value]) => [key, asValue(value)]))
}
