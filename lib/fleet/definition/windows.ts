// Maintenance windows: when a cluster may be begun with, by the clock on the wall of its own place.

/** A window that comes again each week. */
export interface MaintenanceWindow {
  /** Days on which it opens, 0 for Sunday. */
  readonly days: readonly number[]
  /** Minutes after midnight. */
  readonly from: number
  /** Where it is not after `from`, the window goes on into the next day. */
  readonly to: number
  /** A time zone's name, as `Europe/Paris`. */
  readonly zone: string
}

/** Names of days, as fleet.yml has them, Sunday first. */
export const dayNames = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const

const [minute, dayMinutes] = [60_000, 24 * 60]
const clocks = new Map<string, Intl.DateTimeFormat>()

/** The clock of a time zone. Throws `RangeError` where there is no such zone. */
export function clockOf(zone: string): Intl.DateTimeFormat {
  const known = clocks.get(zone)
  if (known) return known
  const parts = { weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const
  const made = new Intl.DateTimeFormat('en-GB', { timeZone: zone, ...parts })
  clocks.set(zone, made)
  return made
}

/** Reads `22:30` as minutes after midnight; `undefined` where it is no time. `24:00` is the end of a day. */
export function readTime(text: string): number | undefined {
  const [, hours, minutes] = /^(\d{1,2}):(\d{2})$/.exec(text) ?? []
  if (hours === undefined || Number(minutes) > 59) return undefined
  const all = Number(hours) * 60 + Number(minutes)
  return all <= dayMinutes ? all : undefined
}

/** Whether one of the windows is open, or there are none. `now` is milliseconds since 1970. */
export const isOpenNow = (windows: readonly MaintenanceWindow[], now: number): boolean =>
  windows.length === 0 || windows.some(one => isOpen(one, now))

/**
 * When one of the windows is open: `now` where one is, or where there are none.
 * @param now milliseconds since 1970; so is what is returned
 */
export function opensAt(windows: readonly MaintenanceWindow[], now: number): number {
  if (isOpenNow(windows, now)) return now
  return Math.min(...windows.map(one => nextOpening(one, now)))
}

function localOf(zone: string, at: number): { day: number; time: number } {
  const parts = Object.fromEntries(
    clockOf(zone)
      .formatToParts(at)
      .map(({ type, value }) => [type, value]),
  )
  const day = dayNames.findIndex(name => parts['weekday']?.toLowerCase().startsWith(name))
  return { day, time: Number(parts['hour']) * 60 + Number(parts['minute']) }
}

function isOpen({ days, from, to, zone }: MaintenanceWindow, now: number): boolean {
  const { day, time } = localOf(zone, now)
  if (from < to) return days.includes(day) && time >= from && time < to
  return (days.includes(day) && time >= from) || (days.includes((day + 6) % 7) && time < to)
}

function nextOpening({ days, from, zone }: MaintenanceWindow, now: number): number {
  const { day, time } = localOf(zone, now)
  const start = Math.floor(now / minute) * minute
  for (let later = 0; later <= 7; later++) {
    const distance = later * dayMinutes + from - time
    if (distance <= 0 || !days.includes((day + later) % 7)) continue
    const reached = start + distance * minute
    // Where the clock was put forward or back meanwhile.
    const off = from - localOf(zone, reached).time
    return reached + (off > dayMinutes / 2 ? off - dayMinutes : off < -dayMinutes / 2 ? off + dayMinutes : off) * minute
  }
  return Number.POSITIVE_INFINITY
}
