// The journal of a run: every event as one JSON line, flushed to disk before a step starts and after it ends. What steps print, and what
// they write to files, stands in files of its own: nobody needs it to go on with a run.
import { join } from 'node:path'
import { HostFailedError } from '../../errors.ts'
import type { RunMode } from '../../playbook/model.ts'
import { formatSize } from '../../playbook/size.ts'
import type { RunEvent } from '../events.ts'
import { cannotKeep, openLineFile, writeRemedy } from '../folder/line-file.ts'
import { keptOutput, type OutputOf, openOutputFiles, outputFile } from '../printed/output-files.ts'
import { cutMark, openJournalEnd } from './end.ts'

/** Keeps the journal of one run. Events and texts must be redacted before they come here. */
export interface Journal {
  /** Never throws: events come from everywhere. What could not be written, `flush` tells. */
  write(event: RunEvent): void
  /**
   * A text as it may stand in an event. Where it is long it is cut in the middle, and the whole of it is kept in a file, which it names:
   * the one with the output of a step on a host, or the run's own.
   */
  shorten(text: string, of?: OutputOf & { readonly play: number }): string
  /**
   * Resolves once everything written so far is on the disk. Calls that come together share one flush.
   * Rejects with `HostFailedError` where something is missing in it.
   */
  flush(): Promise<void>
  /** Never rejects. */
  close(): Promise<void>
}

/** How a journal is kept. */
export interface JournalOptions {
  /** Bytes that are kept of what a step prints on a host. */
  readonly keepOutput?: number
  /** Is told what is not kept. */
  notice?(text: string): void
  /** Bytes that are missing at the end of what is there: whoever reads it later must know, too. */
  readonly missing?: number
}

/** For so many milliseconds at most what steps print is kept in memory: a command prints in many pieces. */
const longestWait = 100
/** Letters of a text in an event. */
const longestText = 4_000
/** Letters of an event of which nobody knows whether its texts are short. */
const longLine = 64 * 1024

/**
 * Opens `events.jsonl` and the `output` folder in a run's folder.
 * @throws HostFailedError where they can't be written
 */
export function openJournal(
  folder: string,
  { keepOutput = keptOutput, notice, missing }: JournalOptions = {},
): Journal {
  let titles: readonly string[] = []
  let names = new Map<string, string>()
  let failure: Error | undefined
  let waiting: NodeJS.Timeout | undefined
  const outputs = openOutputFiles(folder, keepOutput, {
    cut: (path, { step, host }) => {
      const what = `'${names.get(step) ?? step}' prints more than ${formatSize(keepOutput)} (--keep-output)`
      if (host !== '') notice?.(`${host}: ${what}: the beginning and the end are kept, in ${path}`)
    },
    // Nobody needs it to go on with the run.
    failed: error => {
      const place = join(folder, 'output')
      notice?.(`from now on what steps print is not kept: ${error.message}. ${writeRemedy(place, error)}`)
    },
  })
  const file = openLineFile(join(folder, 'events.jsonl'))
  if (missing !== undefined) file.add(JSON.stringify({ kind: cutMark, bytes: missing }))
  const journalEnd = openJournalEnd(folder)
  let mode: RunMode = 'run'

  /** Behind what is missing nothing follows: the journal ends there. */
  const attempt = (work: () => void) => {
    if (failure) return
    try {
      work()
    } catch (error) {
      failure = error instanceof HostFailedError ? error : cannotKeep(folder, error as Error)
    }
  }
  const writeOutputs = () => {
    clearTimeout(waiting)
    waiting = undefined
    outputs.write()
  }
  /** The same step and host as of the line before, most of the time. */
  let known: { readonly play: number; readonly step: string; readonly host: string; readonly path: string } | undefined
  const pathOf = ({ play, step, host }: OutputOf & { readonly play: number }) => {
    if (known?.step === step && known.host === host && known.play === play) return known.path
    const path = outputFile(folder, play, titles[play] ?? 'play', { step, host })
    known = { play, step, host, path }
    return path
  }
  const addOutput = (path: string, line: string, of: OutputOf) => {
    outputs.add(path, line, of)
    waiting ??= setTimeout(writeOutputs, longestWait)
  }
  const add = (event: RunEvent) => {
    if (event.kind === 'step.output') return addOutput(pathOf(event), event.line, event)
    if (event.kind === 'step.diff') return addOutput(pathOf(event), event.diff.join('\n'), event)
    file.add(lineOf(event))
    if (event.kind === 'step.finished') {
      outputs.end(pathOf(event))
      writeOutputs()
    }
    if (event.kind !== 'run.started') return
    titles = event.plays.map(({ title }) => title)
    mode = event.mode
    names = new Map(event.plays.flatMap(({ steps }) => steps.map(({ id, title }) => [id, title])))
    known = undefined
  }

  /** Texts that were not shortened on their way, as a playbook's own: what is looked at as a whole must stay small. */
  const lineOf = (event: RunEvent) => {
    const line = JSON.stringify(event)
    if (line.length < longLine || event.kind === 'run.started') return line
    return JSON.stringify(event, (_key, value: unknown) => (typeof value === 'string' ? shorten(value) : value))
  }
  const shorten: Journal['shorten'] = (text, of) => {
    if (text.length <= longestText) return text
    const path = of ? pathOf(of) : join(folder, 'output', 'run.log')
    attempt(() => addOutput(path, text, of ?? { step: '', host: '' }))
    return cutInTheMiddle(text, path)
  }

  return {
    write: event => attempt(() => add(event)),
    shorten,
    flush: async () => {
      writeOutputs()
      const end = { bytes: file.size, mode }
      await file.flush().catch((error: Error) => {
        failure ??= error
      })
      if (failure) throw failure
      journalEnd.put(end)
    },
    close: async () => {
      clearTimeout(waiting)
      await outputs.close()
      journalEnd.close()
      file.close()
    },
  }
}

/** The first and the last of a text that is too long, and where it stands whole. */
function cutInTheMiddle(text: string, path: string): string {
  const half = longestText / 2
  const [start, end] = [text.slice(0, half).toWellFormed(), text.slice(-half).toWellFormed()]
  return `${start} […: ${formatSize(text.length)}, the whole is in ${path}; it ends with:] ${end}`
}
