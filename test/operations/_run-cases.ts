// Runs the cases of an operation over a connection, and compares what comes of each with what ansible-core made of it.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import type { Connection } from '../../lib/connection/connection.ts'
import { type FileChange, remoteFiles } from '../../lib/connection/files.ts'
import { remoteShell } from '../../lib/connection/remote.ts'
import type { ConnectionSettings } from '../../lib/connection/settings.ts'
import { loadInventory } from '../../lib/inventory/index.ts'
import type { Host } from '../../lib/playbook/host.ts'
import { type StepContext, type StepDefinition, Unchanged } from '../../lib/playbook/model.ts'
import { type Case, type CaseFile, makeTree, treeOf, withFolder } from './_cases.ts'

const folder = join(import.meta.dirname, 'ansible')

/** The cases of an operation, by its name. */
export function casesOf(operation: string): CaseFile {
  return JSON.parse(readFileSync(join(folder, `${operation}.json`), 'utf8')) as CaseFile
}

/** A step's context on a connection, in a run whose folder is `run`. */
export function stepContext(
  connection: Connection,
  run: string,
  at: ConnectionSettings | Host,
  watch?: (change: FileChange) => void,
): StepContext {
  return {
    host: 'vars' in at ? at : { name: 'h1', groups: [], vars: {}, connection: at },
    $: remoteShell(connection),
    files: remoteFiles(connection, undefined, watch),
    forward: (address: string, port: number) => connection.forward(address, port),
    run: 'test',
    folder: run,
    step: 'the-step',
    vars: {},
    mode: 'run',
    check: false,
    signal: new AbortController().signal,
    log: () => {},
    registered: () => undefined,
  } as unknown as StepContext
}

/** The host, with the variables of a case: of an inventory, as templates want it. */
async function hostOf(folder: string, { vars }: Case, connection: ConnectionSettings): Promise<Host> {
  if (!vars) return { name: 'h1', groups: [], vars: {}, connection }
  const path = join(folder, 'inventory.json')
  writeFileSync(path, JSON.stringify({ all: { hosts: { h1: vars } } }))
  return (await loadInventory({ sources: [path], environment: {}, cwd: folder })).host('h1')
}

/** Runs cases one by one: asked, done, done again and undone. Fails the test where rekey does something else than Ansible. */
export async function runCases(
  t: ExecutionContext,
  connection: Connection,
  settings: ConnectionSettings,
  { cases, archives }: CaseFile,
  stepOf: (options: never, one: Case) => StepDefinition,
  environmentOf?: (place: string) => Readonly<Record<string, string>>,
): Promise<void> {
  const work = mkdtempSync(join(tmpdir(), 'rekey-cases-'))
  const umask = process.umask(0o022)
  try {
    const asked = [...cases.entries()].filter(([, { root }]) => !root || process.getuid?.() === 0)
    // A few at a time, as most of it is waiting for commands; where they have an environment, that is this process's, and theirs alone.
    const lanes = environmentOf ? 1 : 3
    const next = asked.values()
    const worker = async () => {
      for (const [index, one] of next) {
        const place = join(work, String(index))
        // What a connection to this machine gives its commands.
        Object.assign(process.env, environmentOf?.(place))
        await runCase(t, place, { connection, settings, one, stepOf, archives })
      }
    }
    await Promise.all(Array.from({ length: lanes }, worker))
  } finally {
    process.umask(umask)
    rmSync(work, { recursive: true, force: true })
  }
}

/** What was thrown. What a command printed is an `Error`, too, also where all went well. */
class Thrown {
  readonly stack: string | undefined
  constructor({ stack }: Error) {
    this.stack = stack
  }
  toString = () => this.stack
}

interface Running {
  readonly connection: Connection
  readonly settings: ConnectionSettings
  readonly one: Case
  readonly archives: boolean | undefined
  readonly stepOf: (options: never, one: Case) => StepDefinition
}

async function runCase(t: ExecutionContext, place: string, running: Running): Promise<void> {
  const { connection, settings, one, stepOf, archives } = running
  const { about, before = {}, ansible, rekey } = one
  if (!ansible && !rekey) return t.fail(`${about}: has no answer`)
  const expected = { check: false, changed: false, again: false, after: {}, ...ansible, ...rekey }
  makeTree(place, before)
  const holds = () => treeOf(place, archives)
  const untouched = holds()
  const run = `${place}-run`
  mkdirSync(run)
  const seen: FileChange[] = []
  const host = await hostOf(run, one, settings)
  const context = stepContext(connection, run, host, change => void seen.push(change))
  const attempt = async (task: () => unknown): Promise<unknown> => {
    try {
      return await task()
    } catch (error) {
      return new Thrown(error as Error)
    }
  }
  const step = await attempt(() => stepOf(withFolder(one.options, place) as never, one))
  const isFailure = typeof expected.failed === 'string'
  if (step instanceof Thrown) return void t.true(isFailure, `${about}: ${step}`)
  const { plan, run: perform, rollback } = step as StepDefinition

  const planned = await attempt(() => plan?.(context))
  // What fails may be found out only by doing it; and where Ansible's check mode does not see it yet, ours may.
  if (isFailure && !(planned instanceof Thrown)) t.not(expected.check, 'failed', `${about}: its plan is no failure`)
  if (planned instanceof Thrown) {
    if (!isFailure) return t.fail(`${about}: ${planned.stack}`)
  } else if (expected.check !== 'skipped')
    t.is((planned as string[]).length > 0, expected.check as boolean, `${about}: its plan, ${planned}`)
  t.deepEqual(holds(), untouched, `${about}: its plan changes something`)
  if (expected.diff && !(planned instanceof Thrown))
    t.is(seen.at(-1)?.after?.toString(), expected.diff.after, `${about}: its diff`)

  const did = await attempt(() => perform(context))
  if (isFailure) t.true(did instanceof Thrown, `${about}: is no failure`)
  else if (did instanceof Thrown) return t.fail(`${about}: ${did.stack}`)
  else t.is(!(did instanceof Unchanged), expected.changed, `${about}: whether it changes something`)
  t.deepEqual(holds(), expected.after, `${about}: what it comes to`)
  if (!isFailure) {
    const again = await attempt(() => perform({ ...context, step: 'again' }))
    if (again instanceof Thrown) return t.fail(`${about}, again: ${again.stack}`)
    t.is(!(again instanceof Unchanged), expected.again, `${about}: whether it changes something again`)
    if (expected.again) await rollback?.({ ...context, step: 'again' })
  }
  if (!rollback) return
  const undone = await attempt(() => rollback(context))
  if (undone instanceof Thrown) t.fail(`${about}: ${undone.stack}`)
  t.deepEqual(holds(), one.undone ?? untouched, `${about}: undone`)
}
