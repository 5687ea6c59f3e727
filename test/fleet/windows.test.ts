// Maintenance windows, by the clock of their own zone, also where that is put forward or back.
import test from 'ava'
import { type MaintenanceWindow, opensAt } from '../../lib/fleet/definition/windows.ts'

const at = (text: string) => Date.parse(`${text}:00Z`)
const opened = (window: MaintenanceWindow, now: string) =>
  new Date(opensAt([window], at(now))).toISOString().slice(0, 16)

const weekend = { days: [6, 0], from: 22 * 60, to: 4 * 60, zone: 'Europe/Paris' }
const morning = { days: [1, 2, 3, 4, 5], from: 9 * 60, to: 12 * 60, zone: 'America/New_York' }

test('what is open is open now, also after midnight', t => {
  // 2026-11-28 is a Saturday; Paris is an hour ahead.
  t.is(opened(weekend, '2026-11-28T21:00'), '2026-11-28T21:00')
  t.is(opened(weekend, '2026-11-30T02:59'), '2026-11-30T02:59')
  t.is(opened(morning, '2026-11-30T14:00'), '2026-11-30T14:00')
  t.is(opensAt([], 5), 5)
})

test('what is not opens on its next day', t => {
  t.is(opened(weekend, '2026-11-28T20:59'), '2026-11-28T21:00')
  t.is(opened(weekend, '2026-11-30T03:00'), '2026-12-05T21:00')
  t.is(opened(morning, '2026-11-27T17:00'), '2026-11-30T14:00')
  t.is(opensAt([weekend, morning], at('2026-11-30T13:00')), at('2026-11-30T14:00'))
})

test('a clock that is put back or forward meanwhile does not move it', t => {
  // In New York it is put forward on 8 March 2026: nine o'clock is 13:00 from then on, and was 14:00 before.
  t.is(opened(morning, '2026-03-06T17:00'), '2026-03-09T13:00')
  t.is(opened(morning, '2026-10-30T16:00'), '2026-11-02T14:00')
})

test('the whole day', t => {
  const sundays = { days: [0], from: 0, to: 24 * 60, zone: 'UTC' }
  t.is(opened(sundays, '2026-11-29T23:59'), '2026-11-29T23:59')
  t.is(opened(sundays, '2026-11-30T00:00'), '2026-12-06T00:00')
})
