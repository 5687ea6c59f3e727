// The libraries of fleets, loaded when they are first needed: no other command has a use for them. What of each is used is said here.
import { RekeyError } from '../../errors.ts'
import { importModule } from '../../packed/import-module.ts'

/** Rows of a query, in whichever way their client hands them out. */
export interface Rows {
  readonly rows: readonly unknown[]
}

/** A connection of node-postgres. */
export interface PgClient {
  query(text: string, values?: readonly unknown[]): Promise<Rows>
  release(broken?: boolean): void
  on(event: 'error', listener: (error: Error) => void): unknown
}

/** A pool of node-postgres. */
export interface PgPool {
  query(text: string, values?: readonly unknown[]): Promise<Rows>
  connect(): Promise<PgClient>
  on(event: 'error', listener: (error: Error) => void): unknown
  on(event: 'connect', listener: (client: PgClient) => void): unknown
  end(): Promise<void>
}

/** PostgreSQL in this process. */
export interface Embedded {
  readonly waitReady: Promise<void>
  query(text: string, values?: readonly unknown[]): Promise<Rows>
  exec(text: string): Promise<readonly Rows[]>
  transaction<T>(work: (tx: Pick<Embedded, 'query' | 'exec'>) => Promise<T>): Promise<T>
  close(): Promise<void>
}

/** What pg-boss has its statements run by. */
export interface Executor {
  executeSql(text: string, values?: readonly unknown[]): Promise<Rows>
}

/** A job, as it was fetched. */
export interface FetchedJob {
  readonly id: string
  readonly retryCount: number
  readonly data: unknown
}

/** pg-boss, as far as fleets need it. */
export interface Boss {
  on(event: 'error' | 'warning', listener: (error: unknown) => void): unknown
  start(): Promise<unknown>
  stop(options: { close: boolean; graceful: boolean; timeout: number }): Promise<void>
  createQueue(name: string, options: Readonly<Record<string, unknown>>): Promise<void>
  getQueue(name: string): Promise<unknown>
  deleteQueue(name: string): Promise<void>
  send(name: string, data: object, options: Readonly<Record<string, unknown>>): Promise<string | null>
  fetch(name: string, options: Readonly<Record<string, unknown>>): Promise<readonly FetchedJob[]>
  touch(name: string, job: Pick<FetchedJob, 'id' | 'retryCount'>): Promise<{ readonly affected: number }>
  complete(name: string, job: Pick<FetchedJob, 'id' | 'retryCount'>): Promise<unknown>
  cancel(name: string, ids: readonly string[]): Promise<unknown>
  supervise(name: string): Promise<void>
}

/** What encrypts and decrypts with age. */
export interface Age {
  generateX25519Identity(): Promise<string>
  identityToRecipient(identity: string): Promise<string>
  Encrypter: new () => { addRecipient(recipient: string): void; encrypt(bytes: Uint8Array): Promise<Uint8Array> }
  Decrypter: new () => { addIdentity(identity: string): void; decrypt(bytes: Uint8Array): Promise<Uint8Array> }
}

async function load<Library>(name: string): Promise<Library> {
  try {
    return (await importModule(name)) as Library
  } catch (cause) {
    throw new RekeyError(`${name} can't be loaded: ${(cause as Error).message}`, {
      code: 'fleet.library',
      hint: 'Fleets need it: install rekey with all of its packages (npm ci).',
      cause,
    })
  }
}

export const loadPg = async (): Promise<{ Pool: new (options: object) => PgPool }> =>
  (await load<{ default: { Pool: new (options: object) => PgPool } }>('pg')).default

export const loadEmbedded = (): Promise<{ PGlite: new (folder: string, options?: object) => Embedded }> =>
  load('@electric-sql/pglite')

export const loadBoss = (): Promise<{ PgBoss: new (options: object) => Boss; fromPglite(db: Embedded): Executor }> =>
  load('pg-boss')

export const loadAge = (): Promise<Age> => load('age-encryption')
