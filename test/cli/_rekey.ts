// The command line as users call it, over an inventory of several names for one sshd, with a state folder of its own.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import anyTest, { type TestFn } from 'ava'
import { quote } from '../../lib/connection/shell.ts'
import { eventually } from '../_eventually.ts'
import { served as askServer, type Called } from '../_served.ts'
import { temporaryFolder } from '../_temporary.ts'
import { sshdMissing, startSshd, type TestSshd } from '../ssh/sshd.ts'

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

export type { Called } from '../_served.ts'

/** What a test over a real sshd has. */
export interface OnSshd {
  sshd: TestSshd
  bench: Workbench
}

/**
 * The tests of a file, each with an sshd and a workbench of its own. Those declared with `real` are left out where this machine has
 * no sshd, and one line says so.
 * @param what is then not tested
 * @param hosts of the workbench
 * @param isServed whether its calls share a process, where nothing else is said of one
 */
export function testsOnSshd(what: string, hosts?: readonly string[], isServed = false) {
  const missing = sshdMissing()
  const test = anyTest as TestFn<OnSshd>
  if (missing) test.skip(`${what} not tested: ${missing}`, () => {})
  test.beforeEach(async t => {
    if (missing) return
    t.context.sshd = await startSshd()
    t.context.bench = workbench(t.context.sshd, hosts, isServed)
  })
  test.afterEach.always(async t => {
    await t.context.sshd?.stop()
  })
  return { test, real: missing ? test.skip : test.serial }
}

/** A folder for one test: an inventory, playbooks, and the state that rekey keeps. */
export interface Workbench {
  readonly folder: string
  readonly inventory: string
  /** Where rekey keeps what it knows. */
  readonly state: string
  /** Sets variables of all hosts beside the usual ones. */
  set(variables: Record<string, unknown>): void
  /** Makes an empty file in the folder, which commands on hosts wait for. */
  touch(name: string): void
  /** Resolves once a command on a host has made that file in the folder. */
  written(name: string): Promise<void>
  /** Writes a playbook, which may import `rekey`'s public API by `from API`, and zod by `from ZOD`, and returns its path. */
  playbook(source: string): string
  rekey(
    args: readonly string[],
    options?: {
      onLine?: (line: string, kill: (signal: NodeJS.Signals) => void) => void
      /** Is given what it says on stderr so far, each time that there is more. */
      onError?: (said: string, kill: (signal: NodeJS.Signals) => void) => void
      env?: Readonly<Record<string, string>>
      /** A program that starts it, with what stands before it. */
      through?: readonly string[]
      /** By a process that does others, too: for what does not depend on it. */
      served?: boolean
    },
  ): Promise<Called>
  /** The same on a terminal, where questions are answered as they come; what shows on it is in `stdout`. */
  onTerminal(
    args: readonly string[],
    answers: readonly (readonly [question: RegExp, answer: string])[],
  ): Promise<Called>
  /** The folders of the runs so far, oldest first. */
  runs(): string[]
}

/**
 * Makes a workbench whose hosts are all that one sshd, or this machine, or can't be reached.
 * @param isServed whether its calls share a process, where nothing else is said of one
 */
export function workbench(
  sshd: TestSshd | 'local' | undefined,
  hosts: readonly string[] = ['h1', 'h2', 'h3'],
  isServed = false,
): Workbench {
  const folder = temporaryFolder('workbench')
  const inventory = join(folder, 'hosts.yml')
  const lines = hosts.map(host => `        ${host}:\n`).join('')
  writeFileSync(inventory, `all:\n  children:\n    masters:\n      hosts:\n${lines}`)
  mkdirSync(join(folder, 'group_vars'))
  const settings = sshd === 'local' ? undefined : sshd?.settings
  const variables = {
    ansible_connection: sshd === 'local' ? 'local' : 'ssh',
    ansible_host: '127.0.0.1',
    // A machine that is busy with other tests is slow.
    ansible_timeout: 60,
    ansible_port: settings?.port ?? 1,
    ansible_user: settings?.user ?? 'nobody',
    // All hosts of all tests are one machine: the lock of each test is its own.
    rekey_directory: join(folder, 'on-hosts'),
    ansible_ssh_private_key_file: settings?.privateKeyFile ?? join(folder, 'no-key'),
    ansible_ssh_common_args: `-o UserKnownHostsFile=${settings?.knownHostsFiles?.[0] ?? join(folder, 'known_hosts')} -o StrictHostKeyChecking=yes`,
  }
  writeFileSync(join(folder, 'group_vars', 'all.yml'), JSON.stringify(variables))
  const state = join(folder, 'state')
  let playbooks = 0
  return {
    folder,
    inventory,
    state,
    set: more => writeFileSync(join(folder, 'group_vars', 'all.yml'), JSON.stringify(Object.assign(variables, more))),
    touch: name => writeFileSync(join(folder, name), ''),
    written: name => eventually(() => existsSync(join(folder, name)), name),
    playbook: source => {
      const path = join(folder, `playbook-${++playbooks}.ts`)
      writeFileSync(
        path,
        source
          // Nowhere else: three letters may stand in the random name of a folder, too.
          .replaceAll('from API', `from ${JSON.stringify(join(root, 'lib', 'index.ts'))}`)
          .replaceAll('from ZOD', `from ${JSON.stringify(join(root, 'node_modules', 'zod', 'index.js'))}`),
      )
      return path
    },
    rekey: (args, { onLine, onError, env: more, through = [], served = isServed } = {}) => {
      const env = {
        ...process.env,
        XDG_STATE_HOME: state,
        NO_COLOR: '1',
        FORCE_COLOR: undefined,
        SSH_AUTH_SOCK: '',
        ...more,
      }
      if (served && !onLine && !more && through.length === 0) return askServer({ args, cwd: folder, env })
      const [program = '', ...words] = [...through, join(root, 'bin', 'rekey'), ...args]
      // In a session of its own, and so without the terminal of whoever runs the tests.
      const child = spawn(program, words, {
        ...{ cwd: folder, env, detached: true },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      return new Promise(resolve => {
        let [stdout, stderr, rest] = ['', '', '']
        child.stdout.on('data', (chunk: Buffer) => {
          stdout += chunk
          const complete = (rest + chunk).split('\n')
          rest = complete.pop() ?? ''
          for (const line of complete) onLine?.(line, signal => child.kill(signal))
        })
        child.stderr.on('data', (chunk: Buffer) => {
          stderr += chunk
          onError?.(stderr, signal => child.kill(signal))
        })
        whenEnded(child, code => resolve({ code, stdout, stderr }))
      })
    },
    onTerminal: (args, answers) => {
      const env = {
        ...process.env,
        XDG_STATE_HOME: state,
        NO_COLOR: '1',
        SSH_AUTH_SOCK: '',
        TERM: 'dumb',
        SHELL: '/bin/sh',
      }
      const line = [join(root, 'bin', 'rekey'), ...args].map(quote).join(' ')
      const child = spawn('script', ['-qec', line, '/dev/null'], { cwd: folder, env, stdio: ['pipe', 'pipe', 'pipe'] })
      const left = [...answers]
      return new Promise(resolve => {
        let [stdout, stderr, unanswered] = ['', '', '']
        child.stdout.on('data', (chunk: Buffer) => {
          stdout += chunk
          unanswered += chunk
          const [next] = left
          if (!next?.[0].test(unanswered)) return
          unanswered = ''
          left.shift()
          child.stdin.write(`${next[1]}\n`)
        })
        child.stderr.on('data', (chunk: Buffer) => {
          stderr += chunk
        })
        whenEnded(child, code => resolve({ code, stdout, stderr }))
      })
    },
    runs: () => {
      try {
        // Two may have begun in one second.
        return readdirSync(join(state, 'rekey', 'runs'))
          .map(run => join(state, 'rekey', 'runs', run))
          .sort((one, other) => statSync(one).birthtimeMs - statSync(other).birthtimeMs)
      } catch {
        return []
      }
    },
  }
}

/** Calls `then` once a process has ended; one that hangs is killed before ava loses its patience. */
function whenEnded(child: ChildProcess, then: (code: number | null) => void): void {
  const timer = setTimeout(() => child.kill('SIGKILL'), 150_000)
  child.on('close', code => {
    clearTimeout(timer)
    then(code)
  })
}
