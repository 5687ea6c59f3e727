// `rekey fleet status`: how a fleet is, once or as a picture that is drawn anew until it is through.
import { setTimeout as delay } from 'node:timers/promises'
import { Command, Option } from 'commander'
import { exitCodes, messageOf } from '../../errors.ts'
import { readFleet } from '../../fleet/definition/fleet-file.ts'
import { isThrough, requireFleet } from '../../fleet/store/fleets.ts'
import { fleetFrame } from '../../fleet/told/frame.ts'
import { eventLine, type FleetStatus, statusLines, statusOf } from '../../fleet/told/status.ts'
import { give, say, tell } from '../../output/print.ts'
import { terminalOf } from '../../output/terminal.ts'
import { cut, visibleJson } from '../../output/text.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { example } from '../options/help.ts'
import { untilInterrupted } from '../running/interrupt.ts'
import { isShared, openStore, readStatus, type StoreOptions, withStoreOptions } from './store.ts'
import { putEvery } from './working.ts'

export function statusCommand(): Command {
  return withStoreOptions(
    new Command('status').description(
      'how a fleet is: waves, clusters under way, what failed, what is waited for, who works',
    ),
  )
    .option('-w, --watch', 'show it as it goes on, until it is through; exits with its code')
    .addOption(new Option('--json', 'everything, as JSON').conflicts('watch'))
    .addHelpText('after', example('what is under way', 'rekey fleet status --watch -F fleet.yml'))
    .action(async ({ json, watch, ...options }: StoreOptions & { json?: true; watch?: true }) => {
      const sight = await openSight(options)
      try {
        if (watch) {
          process.exitCode = await watchFleet(sight, !isShared(options))
          return
        }
        const status = await sight.seen()
        if (json) give(`${visibleJson(status, 2)}\n`)
        else for (const line of statusLines(status)) say(line)
        const silent = Date.now() - status.at
        if (!json && !isShared(options) && !isThrough(status.fleet) && silent > 4 * putEvery)
          say(`As it was ${formatDuration(silent)} ago: nobody works on it now.`)
      } finally {
        await sight.close()
      }
    })
}

/** How it is looked at a fleet, as often as that is asked. */
export interface Sight {
  seen(): Promise<FleetStatus>
  close(): Promise<void>
}

/**
 * Opens the sight of a fleet: its database; of one that is kept on this machine what whoever has the store puts down, since to open it takes
 * seconds, and it may not be opened twice.
 */
export async function openSight(options: StoreOptions): Promise<Sight> {
  if (!isShared(options)) {
    const file = readFleet(options.file)
    return { seen: async () => readStatus(file), close: async () => {} }
  }
  const { database, file, close } = await openStore(options, false)
  return { seen: async () => statusOf(database.query, await requireFleet(database.query, file.name)), close }
}

/** Milliseconds between two looks. */
const lookEvery = 1_000

/**
 * Shows a fleet until it is through: as a picture on a terminal, elsewhere what happens as lines.
 * @param isHere the clock of what is seen is this machine's
 * @returns 0 where all waves are through, 2 where it was given up, 130 where the watching was ended by Ctrl-C, which leaves the fleet alone
 */
async function watchFleet({ seen }: Sight, isHere: boolean): Promise<number> {
  const { signal, release } = untilInterrupted()
  let status = await seen()
  let trouble: string | undefined
  const terminal = terminalOf(process.stdout)
  const picture = terminal.watched ? await show() : undefined
  let last = status.events[0]?.id ?? 0
  if (!picture) for (const line of statusLines(status)) say(line)
  try {
    while (!signal.aborted && !isThrough(status.fleet)) {
      await delay(lookEvery, undefined, { signal }).catch(() => {})
      try {
        status = await seen()
        trouble = undefined
      } catch (error) {
        trouble = messageOf(error)
      }
      if (picture) continue
      for (const one of status.events.filter(({ id }) => id > last).reverse()) say(eventLine(one))
      last = Math.max(last, status.events[0]?.id ?? 0)
    }
  } finally {
    picture?.end()
    release()
  }
  if (trouble !== undefined) tell(trouble)
  if (signal.aborted) return exitCodes.interrupted
  return status.fleet.state === 'done' ? exitCodes.done : exitCodes.hostFailed

  async function show() {
    const { TreeRenderer } = await import('../../output/tree-renderer.ts')
    // Another machine's clock goes at the same pace.
    let [seenAt, at] = [Date.now(), status.at]
    const now = () => {
      if (isHere) return Date.now()
      if (at !== status.at) [seenAt, at] = [Date.now(), status.at]
      return at + Date.now() - seenAt
    }
    const picture = new TreeRenderer(undefined, {
      out: process.stdout,
      live: (screen, tick) => fleetFrame(status, { ...screen, terminal, tick, now: now(), ...whyStale(now()) }),
      final: ({ columns }) =>
        statusLines(status).map(line => cut(terminal.text(line), columns - 1, terminal.signs.ellipsis)),
      above: () => [],
      foreign: text => terminal.text(text),
    })
    picture.render()
    return picture
  }

  function whyStale(now: number) {
    if (trouble !== undefined) return { trouble }
    return isHere && now - status.at > 4 * putEvery ? { trouble: 'nobody works on it now' } : {}
  }
}
