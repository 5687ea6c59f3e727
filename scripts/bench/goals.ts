// What rekey promises of its speed, and whether the figures keep it.
import type { Row } from './bench-run.ts'
import { figuresOf, ratio } from './table.ts'

/** Milliseconds that the delaying proxy adds to there and back. */
const roundTrip = 50

/** A promise, and what was found. */
export interface Judged {
  readonly goal: string
  readonly found: string
  readonly met: boolean
}

/** Judges those goals that the figures speak of. */
export function judge(rows: readonly Row[]): Judged[] {
  const row = (phase: string) => rows.find(one => one.phase === phase && one.runner === 'rekey')
  const memory = (phase: string, most: number) => {
    const own = row(phase)
    const found = own && figuresOf(own)?.memory
    return found === undefined
      ? []
      : [{ goal: `${phase}: at most ${most} MB`, found: `${found.toFixed(0)} MB`, met: found <= most }]
  }
  /** The other takes at least so many times as long as rekey. */
  const faster = (phase: string, other: string, least: number) => {
    const found = ratio(rows, phase, other)
    if (found === undefined) return []
    const ended = rows.some(one => one.phase === phase && one.runner === other && !figuresOf(one))
    return [
      {
        goal: `${phase}: ${least}× faster than ${other}`,
        found: `${ended ? 'more than ' : ''}${found.toFixed(1)}×`,
        met: found >= least,
      },
    ]
  }
  /** rekey takes at most so many times as long as the other. */
  const within = (phase: string, other: string, most: number) => {
    const found = ratio(rows, phase, other)
    return found === undefined
      ? []
      : [
          {
            goal: `${phase}: at most ${most}× the time of ${other}`,
            found: `${(1 / found).toFixed(2)}×`,
            met: 1 / found <= most,
          },
        ]
  }
  const peers = ['ansible', 'mitogen', 'pyinfra', 'openssh']
  const median = (phase: string) => {
    const own = row(phase)
    return own && figuresOf(own)?.median
  }
  const seconds = (phase: string, most: number) => {
    const found = median(phase)
    return found === undefined
      ? []
      : [{ goal: `${phase}: at most ${most.toFixed(2)} s`, found: `${found.toFixed(2)} s`, met: found <= most }]
  }
  /** What steps print makes rekey take at most so many times as long. */
  const output = (quietPhase: string, loudPhase: string, what: string, most: number) => {
    const [quiet, loud] = [median(quietPhase), median(loudPhase)]
    if (!quiet || !loud) return []
    return [
      {
        goal: `${quietPhase}: ${what} take at most ${most}× the time of none`,
        found: `${(loud / quiet).toFixed(2)}×`,
        met: loud / quiet <= most,
      },
    ]
  }
  const busy = rows.flatMap(({ phase, inside }) =>
    inside
      ? [
          {
            goal: `${phase}: no turn of the event loop works for more than 50 ms`,
            found: `${inside.longest.work.toFixed(0)} ms (in ${inside.longest.passed.toFixed(0)} ms)`,
            met: inside.longest.work <= 50,
          },
        ]
      : [],
  )
  /** A step costs one round trip, and what it costs without a delay. */
  const roundTrips = ['30x5-delay'].flatMap(phase => {
    const [near, far] = [row('30x5')?.inside?.step, row(phase)?.inside?.step]
    if (near === undefined || far === undefined) return []
    const trips = (far - near) / roundTrip
    return [
      {
        goal: `${phase}: a step takes one round trip of ${roundTrip} ms longer than without`,
        found: `${trips.toFixed(2)} (${near.toFixed(1)} and ${far.toFixed(1)} ms)`,
        met: trips < 1.5,
      },
    ]
  })
  return [
    ...seconds('start', 0.2),
    ...seconds('help', 0.08),
    ...seconds('version', 0.08),
    ...faster('30x5', 'ansible', 25),
    ...faster('30x5', 'mitogen', 8),
    ...faster('30x5', 'pyinfra', 3),
    ...faster('30x5', 'openssh', 1.8),
    ...['10x100', '10x500'].flatMap(phase => [
      ...peers.flatMap(peer => faster(phase, peer, 1)),
      ...within(phase, 'node-ssh', 1.3),
    ]),
    ...memory('10x500', 250),
    ...output('30x5', '30x5-lines', '6,000 lines of output', 1.2),
    ...['10x100-second', '10x500-second'].flatMap(phase =>
      output(phase, `${phase}-lines`, '5,000 lines of output a second', 1.05),
    ),
    ...within('big', 'openssh', 1.2),
    ...faster('small', 'ansible', 5),
    ...['big-again', 'small-over', 'small-again', 'templates-again'].flatMap(phase => faster(phase, 'ansible', 10)),
    ...['30x5-delay', '10x100-delay', '10x500-delay'].flatMap(phase => faster(phase, 'ansible', 3)),
    ...roundTrips,
    ...busy,
  ]
}
