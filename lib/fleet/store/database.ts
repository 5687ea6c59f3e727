// Where a fleet is kept: PostgreSQL for several workers, the same in this process for one.
import { RekeyError } from '../../errors.ts'
import { type Embedded, type Executor, loadBoss, loadEmbedded, loadPg, type PgPool, type Rows } from './libraries.ts'

/** Runs one statement, with `$1` for the first value. */
export type Query = <Row>(text: string, values?: readonly unknown[]) => Promise<Row[]>

/** A database that is open. */
export interface Database {
  /** What it is called in messages: never with a password. */
  readonly title: string
  readonly query: Query
  /** Does all of `work` or nothing of it. `boss` is for statements of pg-boss in it. */
  transaction<T>(work: (query: Query, boss: Executor) => Promise<T>): Promise<T>
  /** How pg-boss is to reach it. */
  readonly boss: Readonly<Record<string, unknown>>
  /** Whether this process has it for itself. */
  readonly isEmbedded: boolean
  close(): Promise<void>
}

/** Milliseconds that a connection may take, and a statement: of a network that is cut, nobody hears otherwise for hours. */
const [patience, statementPatience] = [10_000, 60_000]
/** What begins a transaction. One whose process was stopped in it is ended by the server: others wait for what it has locked. */
const begin = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL lock_timeout = '60s'"

/**
 * Opens PostgreSQL. What its address does not say, `PGUSER`, `PGPASSWORD`, `.pgpass` and their kin do.
 * @param connections as many as are open at once, beside three of the queue
 * @throws RekeyError where nobody answers
 */
export async function openPostgres(address: string, connections = 4): Promise<Database> {
  const { Pool } = await loadPg()
  const options = {
    ...{ connectionString: address, connectionTimeoutMillis: patience, query_timeout: statementPatience },
    application_name: 'rekey fleet',
  }
  const pool = new Pool({ ...options, max: connections, keepAlive: true })
  // A connection that is lost while nobody uses it is made anew; whoever uses it hears of it.
  pool.on('error', () => {})
  // Where it is lost in the middle of a statement, that rejects, and the connection says so as well.
  pool.on('connect', client => client.on('error', () => {}))
  const title = titleOf(address)
  try {
    await pool.query('SELECT 1')
  } catch (cause) {
    await pool.end().catch(() => {})
    throw new RekeyError(`the database of the fleet does not answer: ${title}: ${(cause as Error).message}`, {
      code: 'fleet.database',
      hint: 'Its address stands in --database or REKEY_FLEET_DATABASE; a password in PGPASSWORD or ~/.pgpass.',
      cause,
    })
  }
  return {
    title,
    isEmbedded: false,
    query: async (text, values) => rowsOf(await pool.query(text, values)),
    transaction: work => inTransaction(pool, work),
    boss: { ...options, max: 3 },
    close: () => pool.end(),
  }
}

/**
 * Opens PostgreSQL in this process, of which the folder must be this process's alone.
 * @throws RekeyError where it can't be opened
 */
export async function openEmbedded(folder: string): Promise<Database> {
  const { PGlite } = await loadEmbedded()
  let db: Embedded
  try {
    db = new PGlite(folder)
    await db.waitReady
  } catch (cause) {
    throw new RekeyError(`the store of the fleet in ${folder} can't be opened: ${(cause as Error).message}`, {
      code: 'fleet.database',
      hint: 'Look whether the disk is full; what the fleet did on clusters is in the folders of its runs.',
      cause,
    })
  }
  const { fromPglite } = await loadBoss()
  return {
    title: folder,
    isEmbedded: true,
    query: async (text, values) => rowsOf(await db.query(text, values)),
    transaction: work =>
      db.transaction(tx => {
        const executeSql: Executor['executeSql'] = async (text, values) =>
          values?.length ? tx.query(text, values) : { rows: (await tx.exec(text)).flatMap(({ rows }) => rows ?? []) }
        return work(async (text, values) => rowsOf(await tx.query(text, values)), { executeSql })
      }),
    boss: { db: fromPglite(db), backend: 'pglite' },
    close: () => db.close(),
  }
}

async function inTransaction<T>(pool: PgPool, work: (query: Query, boss: Executor) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken = false
  try {
    await client.query(begin)
    const result = await work(async (text, values) => rowsOf(await client.query(text, values)), {
      executeSql: (text, values) => client.query(text, values),
    })
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {
      broken = true
    })
    throw error
  } finally {
    client.release(broken)
  }
}

/** Codes of Node where nobody answers at an address, or not any more. */
const unanswered = new Set(
  'ECONNREFUSED ECONNRESET EPIPE ETIMEDOUT EHOSTUNREACH EHOSTDOWN ENETUNREACH ENETDOWN ENOTFOUND EAI_AGAIN'.split(' '),
)
/** Codes of PostgreSQL that say as much: it ends or begins, it only reads since another one took over, it is full of connections, or somebody else was in the way. */
const passing = /^(08...|57P0[1-5]|57014|25006|25P03|53300|40001|40P01|55P03)$/
/** What node-postgres says of it without a code. */
const cut =
  /^(Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error)/

/** Whether an error says that the database does not answer now: then it is asked again, for as long as it takes. All others do not go by themselves. */
export function isAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const { code, message } = error as NodeJS.ErrnoException
  return code === undefined ? cut.test(message) : unanswered.has(code) || passing.test(code)
}

const rowsOf = <Row>({ rows }: Rows) => rows as Row[]

/** Without what may be a password. */
function titleOf(address: string): string {
  try {
    const { hostname, port, pathname } = new URL(address)
    return `${hostname || 'the local socket'}${port ? `:${port}` : ''}${pathname}`
  } catch {
    return 'its address'
  }
}
