// The tables of fleets. pg-boss has a schema of its own beside them, which it looks after itself.
import { RekeyError } from '../../errors.ts'
import type { Database } from './database.ts'

/** Which tables these are: another number is another rekey's. */
const version = 3

const statements = [
  'CREATE SCHEMA IF NOT EXISTS rekey_fleet',
  'CREATE TABLE IF NOT EXISTS rekey_fleet.version (number int NOT NULL)',
  // `definition` is the plan; `hash` that of fleet.yml; `recipient` who can read the folders; `steady` since when it is looked at again and again; `pruned` when
  // what is stored of its runs was removed.
  `CREATE TABLE IF NOT EXISTS rekey_fleet.fleet (
    id text PRIMARY KEY, name text NOT NULL, playbook text NOT NULL, playbook_hash text NOT NULL, definition jsonb NOT NULL, hash text NOT NULL,
    rekey text NOT NULL, recipient text NOT NULL, operator text NOT NULL, begun timestamptz NOT NULL DEFAULT now(), ended timestamptz,
    state text NOT NULL DEFAULT 'running', why text, looked timestamptz, steady timestamptz, pruned timestamptz,
    pruned_by text)`,
  `CREATE TABLE IF NOT EXISTS rekey_fleet.wave (
    fleet text NOT NULL REFERENCES rekey_fleet.fleet ON DELETE CASCADE, number int NOT NULL, name text NOT NULL, state text NOT NULL DEFAULT 'waiting',
    began timestamptz, ended timestamptz, soak_until timestamptz, approved_by text, PRIMARY KEY (fleet, number))`,
  // `attempt` is the fence: whoever has another one has the cluster no more. `asked`: an operator wants it done also while the fleet is halted.
  `CREATE TABLE IF NOT EXISTS rekey_fleet.cluster (
    fleet text NOT NULL REFERENCES rekey_fleet.fleet ON DELETE CASCADE, name text NOT NULL, wave int NOT NULL, place int NOT NULL,
    task text NOT NULL DEFAULT 'run', state text NOT NULL DEFAULT 'waiting', attempt int NOT NULL DEFAULT 0, worker text, job uuid, run text, step text,
    since timestamptz NOT NULL DEFAULT now(), began timestamptz, ended timestamptz, error text, asked boolean NOT NULL DEFAULT false,
    left_failed boolean NOT NULL DEFAULT false, take_overs int NOT NULL DEFAULT 0, words text[] NOT NULL DEFAULT '{}', PRIMARY KEY (fleet, name))`,
  'CREATE INDEX IF NOT EXISTS cluster_of_wave ON rekey_fleet.cluster (fleet, wave, state)',
  `CREATE TABLE IF NOT EXISTS rekey_fleet.worker (
    id text PRIMARY KEY, fleet text NOT NULL REFERENCES rekey_fleet.fleet ON DELETE CASCADE, machine text NOT NULL, pid int NOT NULL,
    operator text NOT NULL, begun timestamptz NOT NULL DEFAULT now(), seen timestamptz NOT NULL DEFAULT now(), skew int NOT NULL DEFAULT 0)`,
  `CREATE TABLE IF NOT EXISTS rekey_fleet.event (
    id bigserial PRIMARY KEY, fleet text NOT NULL REFERENCES rekey_fleet.fleet ON DELETE CASCADE, at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL, wave text, cluster text, worker text, operator text, run text, text text NOT NULL)`,
  // Who is told what happens. `failing`: why it could not be told last; `fails`: how often since it last was.
  `CREATE TABLE IF NOT EXISTS rekey_fleet.receiver (
    fleet text NOT NULL REFERENCES rekey_fleet.fleet ON DELETE CASCADE, number int NOT NULL, title text NOT NULL, kinds text[] NOT NULL, failing text,
    fails int NOT NULL DEFAULT 0, PRIMARY KEY (fleet, number))`,
  // What each is to be told, written with the event. `due`: when it is tried next; whoever tries it puts that off for as long as that may take.
  `CREATE TABLE IF NOT EXISTS rekey_fleet.notice (
    fleet text NOT NULL, receiver int NOT NULL, event bigint NOT NULL REFERENCES rekey_fleet.event ON DELETE CASCADE, tries int NOT NULL DEFAULT 0,
    due timestamptz NOT NULL DEFAULT now(), ended timestamptz, sent boolean NOT NULL DEFAULT false, PRIMARY KEY (event, receiver),
    FOREIGN KEY (fleet, receiver) REFERENCES rekey_fleet.receiver ON DELETE CASCADE)`,
  'CREATE INDEX IF NOT EXISTS notice_open ON rekey_fleet.notice (fleet, receiver, due) WHERE ended IS NULL',
  // Pieces of files in the folders of runs, encrypted, their paths as well.
  `CREATE TABLE IF NOT EXISTS rekey_fleet.piece (
    fleet text NOT NULL REFERENCES rekey_fleet.fleet ON DELETE CASCADE, cluster text NOT NULL, run text NOT NULL, id text NOT NULL, bytes bytea NOT NULL,
    PRIMARY KEY (fleet, cluster, run, id))`,
]

/** Makes what is missing. Throws `RekeyError` where the tables are another rekey's. */
export async function makeTables(database: Database): Promise<void> {
  await database.transaction(async query => {
    // Two who begin at the same moment.
    await query('SELECT pg_advisory_xact_lock(7239463)')
    for (const statement of statements) await query(statement)
    const [found] = await query<{ number: number }>('SELECT number FROM rekey_fleet.version')
    if (!found) await query('INSERT INTO rekey_fleet.version VALUES ($1)', [version])
    else if (found.number !== version) throw anotherRekeys(database, found.number)
  })
}

/** Throws `RekeyError` where no fleet was begun in a database, or by another rekey. */
export async function requireTables(database: Database): Promise<void> {
  const [made] = await database.query<{ there: string | null }>(
    "SELECT to_regclass('rekey_fleet.version')::text AS there",
  )
  const [found] = made?.there ? await database.query<{ number: number }>('SELECT number FROM rekey_fleet.version') : []
  if (!found)
    throw new RekeyError(`no fleet was begun in ${database.title}`, {
      code: 'fleet.none',
      hint: "Begin one: 'rekey fleet run PLAYBOOK -F fleet.yml'.",
    })
  if (found.number !== version) throw anotherRekeys(database, found.number)
}

const anotherRekeys = ({ title }: Database, number: number) =>
  new RekeyError(`the tables of fleets in ${title} are of another rekey: ${number}, and this one knows ${version}`, {
    code: 'fleet.version',
    hint: 'All who work on a fleet must have the same rekey.',
  })
