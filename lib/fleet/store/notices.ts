// What is still to be told to whom. Any worker tells it: a claim says who does now, and holds for as long as that may take.
import type { Database, Query } from './database.ts'
import { addEvent, type EventRow, eventColumns } from './fleets.ts'

/** Something that somebody is to be told, which this process has. */
export interface ClaimedNotice {
  readonly event: EventRow
  readonly receiver: number
  /** Which time this is: whoever has another number has it no more. */
  readonly tries: number
}

/** Milliseconds until it is tried again: each time later, at last every quarter of an hour. */
const pauses = [5_000, 15_000, 60_000, 300_000, 900_000]
/** For how long after the event, in milliseconds. */
export const triedFor = 24 * 3_600_000

const soon = (milliseconds: string) => `now() + ${milliseconds} * interval '1 millisecond'`

/** The numbers of those for whom something is due within so many milliseconds, or is being sent. */
export async function dueReceivers(query: Query, fleet: string, within = 0): Promise<number[]> {
  const rows = await query<{ receiver: number }>(
    `SELECT DISTINCT receiver FROM rekey_fleet.notice WHERE fleet = $1 AND ended IS NULL AND due <= ${soon('$2::int')}`,
    [fleet, within],
  )
  return rows.map(({ receiver }) => receiver)
}

/**
 * The next that a receiver is to be told; `undefined` where nothing is due.
 * @param hold milliseconds after which somebody else may take it
 */
export async function claimNotice(
  query: Query,
  fleet: string,
  receiver: number,
  hold: number,
): Promise<ClaimedNotice | undefined> {
  // What could not be told may have itself to blame: others go first.
  const [row] = await query<EventRow & { tries: number }>(
    `WITH next AS (
       SELECT event FROM rekey_fleet.notice WHERE fleet = $1 AND receiver = $2 AND ended IS NULL AND due <= now()
       ORDER BY tries, event LIMIT 1 FOR UPDATE SKIP LOCKED),
     claimed AS (
       UPDATE rekey_fleet.notice SET tries = tries + 1, due = ${soon('$3::int')} FROM next
       WHERE notice.event = next.event AND receiver = $2 RETURNING notice.event, tries)
     SELECT tries, ${eventColumns} FROM claimed JOIN rekey_fleet.event ON id = claimed.event`,
    [fleet, receiver, hold],
  )
  if (!row) return undefined
  const { tries, ...event } = row
  return { event, receiver, tries }
}

/** It was told. */
export const noticeSent = ({ transaction }: Database, fleet: string, { event, receiver }: ClaimedNotice) =>
  transaction(async query => {
    await query('UPDATE rekey_fleet.notice SET ended = now(), sent = true WHERE event = $1 AND receiver = $2', [
      ...[event.id, receiver],
    ])
    const [again] = await query<{ title: string }>(
      `UPDATE rekey_fleet.receiver SET failing = NULL, fails = 0 WHERE fleet = $1 AND number = $2 AND failing IS NOT NULL RETURNING title`,
      [fleet, receiver],
    )
    if (again) await addEvent(query, fleet, { kind: 'notify', text: `${again.title} is told again what happens` })
  })

/**
 * It could not be told: this one and all others for the same receiver are tried again later, those of the day before no more. That is said once,
 * until it can be told again.
 */
export const noticeFailed = (
  { transaction }: Database,
  fleet: string,
  { event, receiver, tries }: ClaimedNotice,
  why: string,
) =>
  transaction(async query => {
    const [row] = await query<{ title: string; fails: number }>(
      'SELECT title, fails FROM rekey_fleet.receiver WHERE fleet = $1 AND number = $2 FOR NO KEY UPDATE',
      [fleet, receiver],
    )
    const [ours] = await query('SELECT 1 FROM rekey_fleet.notice WHERE event = $1 AND receiver = $2 AND tries = $3', [
      ...[event.id, receiver, tries],
    ])
    if (!row || !ours) return
    const pause = pauses[Math.min(row.fails, pauses.length - 1)]!
    await query('UPDATE rekey_fleet.receiver SET failing = $3, fails = fails + 1 WHERE fleet = $1 AND number = $2', [
      ...[fleet, receiver, why],
    ])
    await query(
      `UPDATE rekey_fleet.notice SET due = ${soon('$3::int')} WHERE fleet = $1 AND receiver = $2 AND ended IS NULL AND (due <= ${soon('$3::int')} OR event = $4)`,
      [fleet, receiver, pause, event.id],
    )
    await query(
      `UPDATE rekey_fleet.notice SET ended = now() FROM rekey_fleet.event
       WHERE notice.fleet = $1 AND receiver = $2 AND ended IS NULL AND id = notice.event AND at < now() - $3 * interval '1 millisecond'`,
      [fleet, receiver, triedFor],
    )
    if (row.fails === 0)
      await addEvent(query, fleet, {
        kind: 'notify',
        text: `${row.title} can't be told what happens: ${why}; it is tried again for a day`,
      })
  })

/** Those who can't be told what happens now, why, and how much they were not told. */
export const untoldOf = (query: Query, fleet: string) =>
  query<{ title: string; why: string | null; left: number }>(
    `SELECT title, failing AS why, count(event)::int AS left FROM rekey_fleet.receiver
     LEFT JOIN rekey_fleet.notice ON notice.fleet = receiver.fleet AND notice.receiver = number AND NOT sent
     WHERE receiver.fleet = $1 AND failing IS NOT NULL GROUP BY number, title, failing ORDER BY number`,
    [fleet],
  )
