// What the lab tests share: the command line as users call it, one lab, and looks at its machines that don't go through rekey.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { TestFn } from 'ava'
import * as lab from '../../lib/lab/index.ts'
import type { RunEvent } from '../../lib/run/events.ts'
import { temporaryFolder } from '../_temporary.ts'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** The lab that these tests share. */
export const name = 'test'

/** What a call of rekey left behind. */
export interface Called {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Calls rekey as a user would, and returns when it has ended. `onLine` sees its standard output as it comes. */
export function rekey(
  args: readonly string[],
  {
    onLine,
    minutes = 10,
    environment = {},
  }: {
    onLine?: (line: string, kill: (signal: NodeJS.Signals) => void) => void
    minutes?: number
    environment?: NodeJS.ProcessEnv
  } = {},
): Promise<Called> {
  return new Promise(resolve => {
    const child = spawn(join(root, 'bin', 'rekey'), args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...environment },
    })
    let stdout = ''
    let stderr = ''
    let rest = ''
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk
      const lines = (rest + chunk).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) onLine?.(line, signal => child.kill(signal))
    })
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), minutes * 60_000)
    child.on('close', code => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    })
  })
}

/** Prints what a lab does, as it is begun and done. */
export function told(progress: lab.Progress): void {
  if (progress.kind !== 'running') console.log(`    lab: ${JSON.stringify(progress)}`)
}

/** Brings a lab up from its snapshot, printing what it does. One of another shape by that name, which an older test has left, goes. */
export async function upFresh(options: lab.LabOptions = { name, masters: 3, nodes: 2 }): Promise<lab.Shape> {
  try {
    return await lab.up({ ...options, fresh: true }, told)
  } catch (error) {
    if ((error as { code?: string }).code !== 'lab.shape') throw error
    await lab.destroy(options.name, told)
    return lab.up({ ...options, fresh: true }, told)
  }
}

/**
 * The lab that files of tests share, as the one before has left it, or from its snapshot: half a minute to a minute less each. A file hands it on well,
 * by `handOn`.
 */
export const upShared = (): Promise<lab.Shape> => lab.up({ name, masters: 3, nodes: 2 }, told)

/** Hands the shared lab on to the next file of tests. Where one of this file failed, that one has it from its snapshot. */
export function handOn(test: TestFn): void {
  let spoiled = false
  test.afterEach.always(t => {
    spoiled ||= !t.passed
  })
  test.after.always(async () => {
    if (spoiled) await lab.destroy(name, () => {})
  })
}

/**
 * What `lab status` complains of, once it is what is expected, or after a minute: a component that was just stopped or
 * started takes the others a moment (who led etcd is followed by another).
 */
export async function complaintsOf(named: string, expected: readonly string[] = []): Promise<readonly string[]> {
  for (let attempt = 1; ; attempt++) {
    const { complaints } = await lab.status(named)
    if (attempt === 60 || complaints.join() === expected.join()) return complaints
    await delay(1_000)
  }
}

/** What a call said that did not end as it should. */
export const saidBy = ({ stdout, stderr }: Called): string => stderr + stdout.slice(-3_000)

/** Runs rotate-ca on the shared lab, and reads its events. */
export async function rotate(
  more: readonly string[] = [],
  options: Parameters<typeof rekey>[1] = {},
): Promise<Called & { events: RunEvent[] }> {
  const called = await rekey(['run', 'rotate-ca', '-i', lab.inventoryPath(name), '--output', 'json', ...more], options)
  return { ...called, events: eventsOf(called) }
}

/** The event of a kind, which must have come. */
export function eventOf<K extends RunEvent['kind']>(
  events: readonly RunEvent[],
  kind: K,
): Extract<RunEvent, { kind: K }> {
  const found = events.findLast(event => event.kind === kind)
  if (!found) throw new Error(`there was no ${kind}`)
  return found as Extract<RunEvent, { kind: K }>
}

/** The events that a call with `--output json` printed. */
export const eventsOf = ({ stdout }: Called): RunEvent[] =>
  stdout
    .split('\n')
    .filter(line => line.startsWith('{'))
    .map(line => JSON.parse(line) as RunEvent)

/** Calls rekey with JSON lines, and kills it once one of its events says so. */
export async function killedAt(words: readonly string[], fatal: (event: RunEvent) => boolean): Promise<Called> {
  let dead = false
  return rekey([...words, '--output', 'json'], {
    onLine: (line, kill) => {
      if (dead || !line.startsWith('{') || !fatal(JSON.parse(line) as RunEvent)) return
      dead = true
      kill('SIGKILL')
    },
  })
}

/**
 * Starts a run that is killed once in each of its plays and gone on with each time: every second time while a step is under way, every
 * other when it has ended on one host. Returns the last call, and in which plays it was killed.
 */
export async function killedInEachPlay(
  words: readonly string[],
): Promise<{ called: Called; folder: string; killed: number[]; plays: number }> {
  const killed: number[] = []
  const fatal = (event: RunEvent) => {
    if (event.kind !== (killed.length % 2 === 0 ? 'step.started' : 'step.finished')) return false
    if (event.play === 0 || killed.includes(event.play) || ('earlier' in event && event.earlier)) return false
    killed.push(event.play)
    return true
  }
  let called = await killedAt(words, fatal)
  const { folder, plays } = eventOf(eventsOf(called), 'run.started')
  for (let part = 0; called.code === null && part < plays.length + 3; part++)
    called = await killedAt(['resume', folder], fatal)
  return { called, folder, killed, plays: plays.length }
}

/** Runs a shell script on a machine, past its sshd. Throws when it fails. */
export function on(machine: string, script: string): Promise<string> {
  return lab.exec(name, machine, ['sh', '-c', script])
}

/**
 * Everything that a rotation could touch on the hosts, as one text: paths, modes, times and hashes of files, and which process
 * the kubelet is.
 */
export async function stateOfHosts(shape: lab.Shape): Promise<string> {
  const states = shape.machines
    .filter(({ role }) => role === 'master' || role === 'node')
    .map(async machine => {
      const files = await on(
        machine.name,
        "find /etc/kubernetes /var/lib/kubelet/pki /var/lib/kubelet/config.yaml /var/backups -type f -printf '%p %m %T@ ' -exec sha256sum {} \\; | sort",
      )
      const kubelet = await on(machine.name, 'systemctl show -p MainPID kubelet')
      return `${machine.name}\n${files}${kubelet}`
    })
  return (await Promise.all(states)).join('\n')
}

/** A copy of the lab's inventory that a test may spoil. Returns its folder. */
export function copyOfInventory(): string {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-inventory-'))
  const source = dirname(lab.inventoryPath(name))
  spawnSync('cp', ['-r', `${source}/.`, folder])
  return folder
}

/** The lab's Vault, asked with its root token. */
export async function vault(method: string, path: string, body?: unknown): Promise<{ status: number; body: string }> {
  const { request } = await import('node:https')
  const variables = readFileSync(join(dirname(lab.inventoryPath(name)), 'group_vars', 'all.yml'), 'utf8')
  const read = (variable: string) =>
    JSON.parse(`"${new RegExp(`^${variable}: "?([^"\n]+)"?$`, 'm').exec(variables)?.[1]}"`) as string
  const address = new URL(read('vault_addr'))
  const token = readFileSync(join(dirname(read('vault_token_file')), 'root-token'), 'utf8').trim()
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        method,
        hostname: address.hostname,
        port: address.port,
        path: `/v1/${path}`,
        ca: readFileSync(read('vault_cacert')),
        headers: { 'x-vault-token': token },
      },
      answer => {
        let text = ''
        answer.on('data', chunk => {
          text += chunk
        })
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body: text }))
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body === undefined ? undefined : JSON.stringify(body))
  })
}

/** What a lab leaves behind on this machine: processes, mounts, namespaces, interfaces, cgroups. Empty when it is down. */
export function leftovers(lab: string): string[] {
  const found: string[] = []
  const shell = (command: string) =>
    spawnSync('sh', ['-c', command], { encoding: 'utf8' }).stdout.split('\n').filter(Boolean)
  found.push(
    ...shell(`grep -lzE '/[l]abs/${lab}/|[r]ekey-${lab}-' /proc/[0-9]*/cmdline 2>/dev/null`)
      .filter(path => !path.includes(`/${process.pid}/`))
      .map(path => `process ${path} ${readCommand(path)}`),
  )
  found.push(...shell(`grep -E '/labs/${lab}(/| )' /proc/self/mounts`).map(line => `mount ${line}`))
  found.push(
    ...shell('ip netns list')
      .filter(line => line.startsWith(`rekey-${lab}-`))
      .map(line => `namespace ${line}`),
  )
  found.push(
    ...shell('ip -o link show')
      .filter(line => line.includes(`rekey-${lab}`))
      .map(line => `interface ${line}`),
  )
  found.push(
    ...shell(`find /sys/fs/cgroup -type d -path '*/rekey/${lab}*' 2>/dev/null | head -5`).map(line => `cgroup ${line}`),
  )
  if (existsSync('/run/netns'))
    found.push(
      ...readdirSync('/run/netns')
        .filter(entry => entry.startsWith(`rekey-${lab}-`))
        .map(entry => `namespace file ${entry}`),
    )
  found.push(
    ...shell('iptables-save 2>/dev/null')
      .filter(line => line.includes(`rekey-${lab}`))
      .map(line => `iptables ${line}`),
  )
  return found
}

function readCommand(path: string): string {
  try {
    return readFileSync(path, 'utf8').replaceAll('\0', ' ').slice(0, 120)
  } catch {
    return '(ended)'
  }
}

/** Writes a file of a test into a folder of its own, and returns its path. */
export function scratchFile(file: string, content: string): string {
  const path = join(temporaryFolder('test'), file)
  writeFileSync(path, content, { mode: 0o600 })
  return path
}
