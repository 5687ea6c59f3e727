// Runs a playbook as its operator would, on hosts that a test names, and tells by its events what came of it.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Connection } from '../connection/connection.ts'
import type { RemoteFiles } from '../connection/files.ts'
import { exitCodes, RekeyError } from '../errors.ts'
import { ownFile } from '../package.ts'
import type { Outcome } from '../playbook/model.ts'
import type { RunEvent } from '../run/events.ts'

/** What a playbook is rehearsed on. */
export interface Staging {
  /**
   * The path of an inventory, or several; or what would stand in one: `{ web: { hosts: { w1: { ansible_connection: 'local' } } } }`. How hosts are
   * reached it says, too: this machine, an sshd of the test's own, a container (an sshd in it, by ProxyCommand).
   */
  readonly inventory: string | readonly string[] | Readonly<Record<string, unknown>>
  /** Variables, as `-e` sets them. */
  readonly vars?: Readonly<Record<string, unknown>>
  /** Further arguments of `rekey run`, such as `['--tags', 'config']`. */
  readonly args?: readonly string[]
}

/** What came of a run. */
export interface Happened {
  /** The exit code of rekey. */
  readonly code: number
  /** Whether it ended well. */
  readonly ok: boolean
  /** By the id of a step and the name of a host. A step that was not come to is not among them. */
  readonly outcomes: Readonly<Record<string, Readonly<Record<string, Outcome>>>>
  /** `step on host` of each that changed something, in the order in which they ended. */
  readonly changed: readonly string[]
  /** With `--check`: what each step would do, as `step on host: …`. */
  readonly planned: readonly string[]
  /** What went wrong, in one text; empty where nothing did. */
  readonly errors: string
  /** Everything that happened, as `rekey run --output json` tells it. */
  readonly events: readonly RunEvent[]
}

/** What a host holds. */
export type HostFiles = Pick<RemoteFiles, 'exists' | 'read' | 'readText' | 'sha256'>

/** A playbook on its hosts. `await using` ends it with the test. */
export interface Rehearsal extends AsyncDisposable {
  /** Runs it with `--check`: nothing is changed. */
  check(): Promise<Happened>
  /** Runs it. The second time a good playbook changes nothing. */
  run(): Promise<Happened>
  /** Undoes the last run that changed something or went wrong. */
  rollback(): Promise<Happened>
  /**
   * The files of a host, to assert on, over the connection that the inventory says; as the user that it says. Rejects where there is no such
   * host, or it can't be reached.
   */
  files(host: string): Promise<HostFiles>
  /** Removes what the rehearsal itself keeps, and ends its connections; what the playbook did stays. */
  close(): void
}

/**
 * Rehearses a playbook. Nothing is done until one of its functions is called.
 * @param playbook its path, or the name of a shipped one
 */
export function rehearse(playbook: string, { inventory, vars = {}, args = [] }: Staging): Rehearsal {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-rehearsal-'))
  const connections = new Map<string, Promise<Connection>>()
  const close = () => {
    for (const opening of connections.values()) opening.then(connection => connection.close()).catch(() => {})
    rmSync(folder, { recursive: true, force: true })
  }
  // What says something of all hosts goes first: the inventory's own word counts more.
  const keeping = written(folder, 'rehearsal.json', { all: { vars: { rekey_directory: join(folder, 'on-hosts') } } })
  const sources = isPaths(inventory) ? [inventory].flat() : [written(folder, 'inventory.json', inventory)]
  const named = [keeping, ...sources].flatMap(source => ['-i', source])
  const extraVars = `@${written(folder, 'vars.json', vars)}`
  const words = [...named, '-e', extraVars, ...args]
  const open = async (host: string): Promise<Connection> => {
    const { loadInventory } = await import('../inventory/index.ts')
    const { connect } = await import('../connection/connect.ts')
    const inventory = await loadInventory({ sources: [keeping, ...sources], extraVars: [extraVars] })
    return await connect(host, inventory.host(host).connection)
  }
  let last: string | undefined
  const start = async (...more: readonly string[]) => {
    const happened = await rekey(['run', playbook, ...words, ...more], folder)
    const started = happened.events.find(event => event.kind === 'run.started')
    if (started && !started.check && (happened.changed.length > 0 || !happened.ok)) last = started.run
    return happened
  }
  return {
    check: () => start('--check'),
    run: () => start(),
    rollback: async () => {
      if (last !== undefined) return await rekey(['rollback', last], folder)
      throw new RekeyError('there is no run to undo', { code: 'testing.no-run', hint: 'Call run() first.' })
    },
    files: async host => {
      const { remoteFiles } = await import('../connection/files.ts')
      const opening = connections.get(host) ?? open(host)
      connections.set(host, opening)
      return remoteFiles(await opening)
    },
    close,
    [Symbol.asyncDispose]: async () => close(),
  }
}

const isPaths = (inventory: Staging['inventory']): inventory is string | readonly string[] =>
  typeof inventory === 'string' || Array.isArray(inventory)

function written(folder: string, name: string, what: unknown): string {
  const file = join(folder, name)
  writeFileSync(file, JSON.stringify(what), { mode: 0o600 })
  return file
}

/** Starts rekey, and resolves when it has ended. */
async function rekey(args: readonly string[], state: string): Promise<Happened> {
  const child = spawn(process.execPath, [ownFile('bin', 'rekey'), ...args, '--output', 'json'], {
    env: { ...process.env, XDG_STATE_HOME: state },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', chunk => (stdout += chunk))
  child.stderr.setEncoding('utf8').on('data', chunk => (stderr += chunk))
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', status => resolve(status ?? exitCodes.hostFailed))
  })
  const events = stdout
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line) as RunEvent)
  return { ...read(events), code, ok: code === exitCodes.done, errors: errorsOf(events, stderr), events }
}

function read(events: readonly RunEvent[]): Pick<Happened, 'outcomes' | 'changed' | 'planned'> {
  const outcomes: Record<string, Record<string, Outcome>> = {}
  const [changed, planned]: [string[], string[]] = [[], []]
  for (const event of events) {
    if (event.kind !== 'step.finished') continue
    const { step, host, outcome } = event
    outcomes[step] = { ...outcomes[step], [host]: outcome }
    if (outcome === 'changed') changed.push(`${step} on ${host}`)
    for (const line of event.would ?? []) planned.push(`${step} on ${host}: ${line}`)
  }
  return { outcomes, changed, planned }
}

function errorsOf(events: readonly RunEvent[], stderr: string): string {
  const told = events.flatMap(event => (event.kind === 'step.finished' && event.error ? [event.error.message] : []))
  // What ended it may be no host's fault.
  const ended = events.flatMap(event => (event.kind === 'run.finished' && event.error ? [event.error.message] : []))
  return [...told, ...ended.filter(one => !told.includes(one)), stderr.trim()].filter(Boolean).join('\n')
}
