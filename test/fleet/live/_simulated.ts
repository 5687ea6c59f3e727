// Simulated clusters: each a host that is this machine, or is reached by a real sshd on it, with a lock, an audit log and a log of its own, and a
// playbook whose steps write into that.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { temporaryFolder } from '../../_temporary.ts'
import { root } from '../../cli/_rekey.ts'
import type { TestSshd } from '../../ssh/sshd.ts'

export interface Simulated {
  readonly folder: string
  /** What was written on the host of a cluster, in its order: `begin N TOKEN` and `end N TOKEN`. */
  log(cluster: string): string[]
  /** The lines of the host's audit log. */
  audit(cluster: string): string[]
  /** The ids of the runs that were there, by the host's audit log. */
  runs(cluster: string): string[]
  touch(name: string): void
  /** Starts rekey in the folder. `state` names a state of its own, as another machine has one. */
  start(words: readonly string[], options?: { state?: string; env?: NodeJS.ProcessEnv }): Called
  rekey(words: readonly string[], options?: { state?: string; env?: NodeJS.ProcessEnv }): Promise<Ended>
}

export interface Ended {
  readonly code: number | null
  readonly said: string
}

export interface Called {
  readonly child: ChildProcess
  readonly ended: Promise<Ended>
  /** What it has said so far. */
  said(): string
}

interface Asked {
  readonly clusters: number
  /** What stands in fleet.yml beside its name and clusters. */
  readonly fleet: string
  readonly steps?: number
  /** Seconds that a step takes. */
  readonly takes?: number
  /** By which the hosts are reached: each process of rekey at the port that it is told of by `sshPort`. Where nothing is said they are local. */
  readonly sshd?: TestSshd
}

/** In the environment of whoever reaches hosts by an sshd: its port, or that of a way to it. */
export const sshPort = 'TEST_SSH_PORT'

/** Makes them. A cluster `cN` fails in its second step as long as there is a file `fails-cN` in the folder, and ends no step while there is one `holds-cN`. */
export function simulate({ clusters, fleet, steps = 3, takes = 0.1, sshd }: Asked): Simulated {
  const folder = temporaryFolder('fleet')
  for (const name of ['inventory', 'hosts', 'logs']) mkdirSync(join(folder, name))
  const names = Array.from({ length: clusters }, (_, index) => `c${index + 1}`)
  for (const [index, name] of names.entries()) {
    const vars = {
      // Runs of the lab are rehearsals for all others.
      ...(index < 2 ? {} : { rekey_require_rehearsal: '1d' }),
      ...(sshd ? bySsh(sshd) : { ansible_connection: 'local' }),
      rekey_directory: join(folder, 'hosts', name),
      log: join(folder, 'logs', name),
      fails: join(folder, `fails-${name}`),
      holds: join(folder, `holds-${name}`),
    }
    writeFileSync(join(folder, 'inventory', `${name}.json`), JSON.stringify({ masters: { hosts: { [name]: vars } } }))
  }
  const lines = names.map((name, index) => {
    const tier = index < 2 ? 'lab' : 'production'
    return `  ${name}: { inventory: inventory/${name}.json, labels: { tier: ${tier} }, variables: { password: of-${name}-hidden } }`
  })
  writeFileSync(join(folder, 'fleet.yml'), `name: simulated\n${fleet}\nclusters:\n${lines.join('\n')}\n`)
  writeFileSync(
    join(folder, 'steps.ts'),
    `
import { play, playbook, secret, step } from ${JSON.stringify(join(root, 'lib', 'index.ts'))}
import { z } from ${JSON.stringify(join(root, 'node_modules', 'zod', 'index.js'))}
const one = (n: number) => step('Step ' + n, { id: 's' + n, run: ({ $, host, vars }) => {
  const { log, fails, holds } = host.vars as { log: string; fails: string; holds: string }
  return $\`test $\{n} != 1 -o ! -e $\{fails} && t=$$ && echo "begin $\{n} $t" >>$\{log} && sleep ${takes} && while test -e $\{holds}; do sleep 0.1; done && echo "end $\{n} $t" >>$\{log}\`
}, rollback: ({ $, host }) => $\`echo undo $\{n} >>$\{host.vars.log}\` })
export default playbook({ name: 'steps', summary: 'Writes', vars: z.object({ password: z.string().transform(text => secret(text)) }), plays: [
  play('Write', { hosts: 'masters' }, Array.from({ length: ${steps} }, (_, n) => one(n)))] })
`,
  )
  const start: Simulated['start'] = (words, { state = 'state', env = {} } = {}) => {
    const child = spawn(process.execPath, [join(root, 'bin', 'rekey'), 'fleet', ...words], {
      cwd: folder,
      env: { ...process.env, XDG_STATE_HOME: join(folder, state), NO_COLOR: '1', FORCE_COLOR: undefined, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', text => (said += text))
    const ended = once(child, 'close').then(([code]) => ({ code: code as number | null, said }))
    return { child, ended, said: () => said }
  }
  const linesOf = (...path: string[]) => {
    const file = join(folder, ...path)
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').filter(Boolean) : []
  }
  const audit = (cluster: string) => linesOf('hosts', cluster, 'audit.log')
  return {
    folder,
    log: cluster => linesOf('logs', cluster),
    audit,
    runs: cluster => [...new Set(audit(cluster).flatMap(line => /\brun=(\S+)/.exec(line)?.[1] ?? []))],
    touch: name => writeFileSync(join(folder, name), ''),
    start,
    rekey: (words, options) => start(words, options).ended,
  }
}

/** How a host is reached by an sshd, at whatever port: the inventory is the same for all. */
function bySsh({ folder, settings }: TestSshd): Record<string, unknown> {
  const knownHosts = join(folder, 'known_hosts')
  return {
    ...{ ansible_connection: 'ssh', ansible_host: '127.0.0.1', ansible_user: settings.user, ansible_timeout: 60 },
    ansible_port: `{{ lookup('env', '${sshPort}') | int }}`,
    ansible_ssh_private_key_file: settings.privateKeyFile,
    ansible_ssh_common_args: `-o UserKnownHostsFile=${knownHosts} -o StrictHostKeyChecking=yes`,
  }
}

/** Where a step began before one that had begun had ended, as a line each: the log of a host says it. */
export function overlaps(log: readonly string[]): string[] {
  return log.flatMap((line, index) => {
    const [word, , token] = line.split(' ')
    if (word !== 'begin') return []
    const end = log.findIndex((other, at) => at > index && other.startsWith('end ') && other.endsWith(` ${token}`))
    // One that was ended in the middle never says so.
    return end > index + 1 ? [`${line}: then ${log.slice(index + 1, end).join(', ')}`] : []
  })
}

/** Resolves with whether something came about within five minutes: the embedded store alone may take one to open where there is much else to do. */
export async function soon(condition: () => boolean): Promise<boolean> {
  for (const until = performance.now() + 300_000; !condition(); await delay(50))
    if (performance.now() > until) return false
  return true
}
