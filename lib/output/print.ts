// The door through which commands speak: no text that comes from a host, a file or a name moves the cursor of whoever reads it.
import { Console } from 'node:console'
import { Writable } from 'node:stream'
import { redactor } from './redaction.ts'
import { terminalOf } from './terminal.ts'

/** Says something to people: whole lines, with nothing in them but signs. */
export function say(text: string): void {
  process.stdout.write(`${terminalOf(process.stdout).text(text)}\n`)
}

let withoutSecrets: ((text: string) => string) | undefined

/** The same on stderr: errors, notices, questions. All of it is free text, and without the secrets that were told of by then. */
export function tell(text: string, end = '\n'): void {
  withoutSecrets ??= redactor().text
  process.stderr.write(`${terminalOf(process.stderr).text(withoutSecrets(text))}${end}`)
}

/** Hands out data: as it is to a program or a file; on a terminal only what can be shown of it. */
export function give(data: string | Buffer): void {
  process.stdout.write(process.stdout.isTTY ? terminalOf(process.stdout).text(data.toString()) : data)
}

/** What could not be written to stdout, and whether a run is shown there. */
const output: { lost?: Error; isRun: boolean } = { isRun: false }

/**
 * Has what is being done go on where what it says can't be written: a pager that was left, a terminal that is gone, a disk that is full.
 * Called once, before anything is said.
 */
export function watchOutput(): void {
  process.stderr.on('error', () => {})
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // Who reads along may stop reading.
    if (error.code === 'EPIPE' || error.code === 'EIO' || output.lost) return
    output.lost = error
    if (output.isRun)
      tell(`Its output can't be written (${error.message}): the run goes on unseen, and its folder has everything.`)
  })
}

/** A run is shown from now on: it counts, and not whether somebody sees it. */
export function showingRun(): void {
  output.isRun = true
}

/** Why what a command was asked for could not be written, where that was not to show a run. */
export function lostOutput(): Error | undefined {
  return output.isRun ? undefined : output.lost
}

/**
 * Has what code of playbooks writes to the console, and what Node warns of, go through this door: straight to the terminal it would come
 * with every secret and control character in it.
 */
export function watchConsole(): void {
  const write = (text: string, _encoding: string, done: () => void) => {
    tell(text, '')
    done()
  }
  globalThis.console = new Console({ stdout: new Writable({ decodeStrings: false, write }), colorMode: false })
  // Node says them itself, unless it was told not to.
  if (process.listenerCount('warning') === 0) return
  process.removeAllListeners('warning')
  process.on('warning', ({ name, message }) => {
    if (name !== 'DeprecationWarning' || !process.noDeprecation) tell(`${name}: ${message}`)
  })
}
