// Sprig's functions on times and durations that depend on nothing but their arguments, and `ago`. Local time is UTC here:
// the host's zone must not show in a file that is rendered from elsewhere.
import { sprigDatetime } from '@promptctl/go-template-js'
import { type GoFunction, type GoValue, kindOf, Struct, toBytes, toText } from './values.ts'

/** Go's time.Time, to the millisecond. */
class Time extends Struct {
  readonly date: Date
  constructor(date: Date) {
    const part = (run: () => number) => () => BigInt(run())
    super(
      'time',
      {},
      {
        Unix: part(() => Math.floor(date.getTime() / 1000)),
        UnixMilli: part(() => date.getTime()),
        Year: part(() => date.getUTCFullYear()),
        Day: part(() => date.getUTCDate()),
        Hour: part(() => date.getUTCHours()),
        Minute: part(() => date.getUTCMinutes()),
        Second: part(() => date.getUTCSeconds()),
        Month: () => formatTime('January', date),
        Weekday: () => formatTime('Monday', date),
        UTC: () => new Time(date),
        String: () => formatTime(goString, date),
        Format: layout => formatTime(textOf(layout), date),
      },
      formatTime(goString, date),
    )
    this.date = date
  }
}

const goString = '2006-01-02 15:04:05.999999999 -0700 MST'

/** A time in UTC by Go's layout, in Go's bytes. */
export function formatTime(layout: string, date: Date): string {
  return toBytes(dates(() => date)['dateInZone']!(layout, date, 'UTC') as string)
}

type Run = (...args: unknown[]) => unknown

function dates(now: () => Date): Record<string, Run> {
  return Object.fromEntries(Object.entries(sprigDatetime(now)).map(([name, { fn }]) => [name, fn as unknown as Run]))
}

/** By their names without `sprig_`. */
export function dateFunctions(now: () => Date): Record<string, GoFunction> {
  const library = dates(now)
  const parsed = (layout: GoValue | undefined, text: GoValue | undefined) => {
    try {
      return new Time(library['toDate']!(textOf(layout), textOf(text)) as Date)
    } catch {
      throw new Error('the text is no time in this layout')
    }
  }
  const moved = (duration: GoValue | undefined, time: GoValue | undefined) => {
    if (!/^[+-]?(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(textOf(duration))) {
      throw new Error('the text is no duration, e.g. "-1h30m"')
    }
    return new Time(library['dateModify']!(textOf(duration), timeOf(time).date) as Date)
  }
  return {
    ago: time => library['ago']!(typeof time === 'bigint' ? time : timeOf(time).date) as string,
    // Go's integers in a template are ints, for which Sprig has 0 seconds; only int64s and strings count.
    duration: seconds =>
      toBytes(library['duration']!(typeof seconds === 'string' ? seconds : integer(seconds)) as string),
    durationRound: duration => library['durationRound']!(textOf(duration)) as string,
    toDate: parsed,
    mustToDate: parsed,
    mustDateModify: moved,
    must_date_modify: moved,
    unixEpoch: time => library['unixEpoch']!(timeOf(time).date) as string,
  }
}

function textOf(value: GoValue | undefined): string {
  if (typeof value === 'string') return toText(value)
  throw new Error(`needs a string, and got ${value === undefined ? 'nothing' : kindOf(value)}`)
}

function integer(value: GoValue | undefined): bigint {
  if (typeof value === 'bigint') return value
  throw new Error(`needs seconds, a string or an integer, and got ${value === undefined ? 'nothing' : kindOf(value)}`)
}

function timeOf(value: GoValue | undefined): Time {
  if (value instanceof Time) return value
  throw new Error(`works on a time, not on ${value === undefined ? 'nothing' : kindOf(value)}`)
}
