// What a run's folder has of steps on hosts beside its journal: what they returned and what they printed. All of it is younger than the
// line of the journal that they begin with, so whatever the journal does not have was lost from its end.
import { readdirSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import type { PlannedPlay } from '../events.ts'
import { outputFile } from '../printed/output-files.ts'
import { returnedIn } from '../registered/registered.ts'

/** A step on a host. */
export interface Trace {
  readonly step: string
  readonly host: string
}

/**
 * The steps that left something in a folder. What can't be read tells nothing.
 * @param plays as the journal announced them, each with its place among those of its run
 */
export function* tracesIn(folder: string, plays: Iterable<readonly [number, PlannedPlay]>): Generator<Trace> {
  try {
    yield* returnedIn(folder)
  } catch {
    // Who needs what is in it is told.
  }
  for (const [index, { title, steps, hosts }] of plays) {
    for (const { id: step } of steps) {
      const path = (host: string) => outputFile(folder, index, title, { step, host })
      const there = new Set(namesIn(dirname(path(''))))
      if (there.size > 0) for (const host of hosts) if (there.has(basename(path(host)))) yield { step, host }
    }
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
