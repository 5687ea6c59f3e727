// Which store the commands of a fleet are about: PostgreSQL where one is named, else one of this user's own, which one process has at a time.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Command, Option } from 'commander'
import { messageOf, RekeyError } from '../../errors.ts'
import { type Fleet, readFleet } from '../../fleet/definition/fleet-file.ts'
import { type Database, openEmbedded, openPostgres } from '../../fleet/store/database.ts'
import { type FleetKey, openKey } from '../../fleet/store/key.ts'
import { makeTables, requireTables } from '../../fleet/store/tables.ts'
import type { FleetStatus } from '../../fleet/told/status.ts'
import { type Order, obey } from '../../fleet/work/orders.ts'
import { tell } from '../../output/print.ts'
import { thisProcess } from '../../process-identity.ts'
import { claimRun } from '../../run/folder/claim.ts'
import { runsDirectory } from '../../run/folder/folder.ts'
import { requireOwnState } from '../../run/folder/trust.ts'
import { tellSecret } from '../../secrets/index.ts'

export interface StoreOptions {
  readonly file: string
  readonly database?: string
  readonly key?: string
  /** Clusters at a time. */
  readonly jobs?: number
}

const addressVariable = 'REKEY_FLEET_DATABASE'

/** Adds `-F` and `--database`, which every command of a fleet has that asks its store. */
export function withStoreOptions(command: Command): Command {
  return withFile(command).addOption(
    new Option('--database <address>', `PostgreSQL for several workers: postgres://HOST/NAME (or ${addressVariable})`),
  )
}

export const withFile = (command: Command): Command =>
  command.option('-F, --file <file>', 'the file of the fleet', 'fleet.yml')

export const withKey = (command: Command): Command =>
  command.option('--key <file>', "the fleet's age key (default: with the fleet's state; made where a fleet is begun)")

/** A store that is open. */
export interface Store {
  readonly file: Fleet
  readonly database: Database
  /** Where this user keeps what belongs to the fleet. */
  readonly folder: string
  /** The fleet's key; `makes` makes one where there is none. */
  key(makes: boolean): Promise<FleetKey>
  close(): Promise<void>
}

/**
 * Opens the store of a fleet.
 * @param makes make what is missing in it
 * @throws RekeyError where another process has the embedded one, or nothing is in it
 */
export async function openStore(options: StoreOptions, makes: boolean): Promise<Store> {
  const file = readFleet(options.file)
  const folder = folderOf(file)
  const key = (making: boolean) => openKey(options.key ?? join(folder, 'key.txt'), making)
  const address = addressOf(options)
  if (address !== undefined) {
    const database = await openPostgres(address, connectionsFor(options.jobs ?? file.maxParallel))
    await (makes ? makeTables(database) : requireTables(database)).catch(async error => {
      await database.close()
      throw error
    })
    return { file, database, folder, key, close: () => database.close() }
  }
  makeFolder(folder)
  const claim = await claimRun(`the fleet ${file.name}`, folder, thisProcess()).catch(error => {
    throw isHeld(error) ? busy(file, error as RekeyError) : error
  })
  try {
    const told = setTimeout(() => tell(`Opening the store of the fleet in ${folder} …`), 2_000)
    const database = await openEmbedded(join(folder, 'store')).finally(() => clearTimeout(told))
    await (makes ? makeTables(database) : requireTables(database))
    const close = async () => {
      await database.close()
      claim.release()
    }
    return { file, database, folder, key, close }
  } catch (error) {
    claim.release()
    throw error
  }
}

/** Connections for so many clusters at a time: what each stores takes some milliseconds, now and then. */
const connectionsFor = (jobs: number) => Math.min(20, 4 + Math.ceil(jobs / 4))

/** Opens the store of a fleet for so long as `work` takes. Throws what `openStore` does. */
export async function withStore<T>(
  options: StoreOptions,
  makes: boolean,
  work: (store: Store) => Promise<T>,
): Promise<T> {
  const store = await openStore(options, makes)
  try {
    return await work(store)
  } finally {
    await store.close()
  }
}

/** Whether the fleet is in a database of its own, which several may ask. */
export const isShared = (options: StoreOptions): boolean => addressOf(options) !== undefined

/** The folder of a fleet's state. */
export const folderOf = ({ name }: Fleet): string => join(dirname(runsDirectory()), 'fleets', name)

function addressOf({ database }: StoreOptions): string | undefined {
  const address = database ?? (process.env[addressVariable] || undefined)
  const password = address === undefined ? '' : passwordOf(address)
  if (password === '') return address
  tellSecret(decodeURIComponent(password))
  if (database !== undefined)
    throw new RekeyError('a password on the command line is seen by everybody on this machine', {
      code: 'fleet.password',
      hint: `Put it in PGPASSWORD or ~/.pgpass, or the whole address in ${addressVariable}.`,
    })
  return address
}

function passwordOf(address: string): string {
  try {
    const { password, searchParams } = new URL(address)
    return password || (searchParams.get('password') ?? '')
  } catch {
    throw new RekeyError('the address of the database is none', {
      code: 'fleet.database',
      hint: 'It is written as postgres://USER@HOST:PORT/NAME.',
    })
  }
}

function makeFolder(folder: string): void {
  for (const path of [runsDirectory(), folder]) mkdirSync(path, { recursive: true, mode: 0o700 })
  requireOwnState(runsDirectory())
}

const isHeld = (error: unknown) => error instanceof RekeyError && error.code === 'resume.running'

const busy = ({ name }: Fleet, cause: RekeyError) =>
  new RekeyError(`the fleet ${name} is worked on: ${cause.message}`, {
    code: 'fleet.busy',
    hint: 'One process at a time has a fleet that is kept on this machine. For several workers keep it in PostgreSQL: --database.',
    cause,
  })

/** For how long whoever works on a fleet is given to hear an order, in milliseconds. */
const patience = 60_000

/**
 * Has an order obeyed: in the store, or by the process that has it.
 * @returns what that means; and whether this process may go on with the work, with the store that it opened for that
 */
export async function give(options: StoreOptions, order: Order): Promise<{ said: string; store?: Store }> {
  let store: Store
  try {
    store = await openStore(options, false)
  } catch (error) {
    if (!(error instanceof RekeyError) || error.code !== 'fleet.busy') throw error
    return { said: await hand(folderOf(readFleet(options.file)), order) }
  }
  try {
    return { said: await obey(store.database, store.file.name, order), store }
  } catch (error) {
    await store.close()
    throw error
  }
}

const ordersOf = (folder: string) => join(folder, 'orders')

/** Hands an order to the process that has the store, and waits for what it says. */
async function hand(folder: string, order: Order): Promise<string> {
  const orders = ordersOf(folder)
  mkdirSync(orders, { recursive: true, mode: 0o700 })
  const path = join(orders, `${process.pid}-${Date.now()}`)
  put(`${path}.json`, { order, at: Date.now() } satisfies Handed)
  for (const until = performance.now() + patience; performance.now() < until; await delay(100)) {
    const said = readText(`${path}.said`)
    if (said === undefined) continue
    rmSync(`${path}.said`, { force: true })
    const { text, error } = JSON.parse(said) as { text?: string; error?: string }
    if (error !== undefined) throw new RekeyError(error, { code: 'fleet.order' })
    return text ?? ''
  }
  rmSync(`${path}.json`, { force: true })
  throw new RekeyError('whoever works on the fleet did not hear the order', {
    code: 'fleet.order',
    hint: "Look whether it lives: 'rekey fleet status'.",
  })
}

interface Handed {
  readonly order: Order
  /** Milliseconds since 1970. */
  readonly at: number
}

/** Obeys what was handed to this process, once, and while somebody waits for it: what one has left who was killed is nobody's order any more. */
export async function hearOrders({ folder, database, file }: Store): Promise<void> {
  const orders = ordersOf(folder)
  for (const name of listed(orders)) {
    const path = join(orders, name)
    if (!name.endsWith('.json')) {
      if (isOld(statSync(path, { throwIfNoEntry: false })?.mtimeMs)) rmSync(path, { force: true })
      continue
    }
    const [taken, said] = ['taken', 'said'].map(ending => path.replace(/json$/, ending)) as [string, string]
    // Whoever gave it takes it back where that lasted too long.
    if (!movedTo(path, taken)) continue
    const { order, at } = JSON.parse(readFileSync(taken, 'utf8')) as Handed
    if (!isOld(at)) {
      const answer = await obey(database, file.name, order).then(
        text => ({ text }),
        (error: unknown) => ({ error: messageOf(error) }),
      )
      put(said, answer)
    }
    rmSync(taken, { force: true })
  }
}

const isOld = (at: number | undefined) => at !== undefined && Date.now() - at > patience

/** Moves a file. Returns whether it was there. */
function movedTo(path: string, other: string): boolean {
  try {
    renameSync(path, other)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

const statusFile = (folder: string) => join(folder, 'status.json')

/** Puts down how the fleet is, for those who may not open the store. */
export function putStatus({ folder }: Store, status: FleetStatus): void {
  put(statusFile(folder), status)
}

/** How the fleet was when that was put down last. Throws `RekeyError` where none was begun here. */
export function readStatus(file: Fleet): FleetStatus {
  const text = readText(statusFile(folderOf(file)))
  if (text !== undefined) return JSON.parse(text) as FleetStatus
  throw new RekeyError(`no fleet ${file.name} was begun here`, {
    code: 'fleet.none',
    hint: `Begin it: 'rekey fleet run PLAYBOOK -F ${file.file}'; one in PostgreSQL is found by --database.`,
  })
}

/** Writes what another process reads: it finds all of it or none. */
function put(path: string, value: object): void {
  writeFileSync(`${path}.new`, JSON.stringify(value), { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function listed(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch {
    return []
  }
}
