// The door through which commands speak: no text that comes from a host, a file or a name moves the cursor of whoever reads it.
import { Console } from 'node:console'
import { Writable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { isPlaybooks } from '../playbook/stray.ts'
import { collectLines } from '../run/printed/output-lines.ts'
import { redactor } from './redaction.ts'
import { terminalOf } from './terminal.ts'

/** As they are: code of playbooks finds others in their place. */
const { stdout, stderr } = process

/** Says something to people: whole lines, with nothing in them but signs. */
export function say(text: string): void {
  stdout.write(`${terminalOf(stdout).text(inWhole(text))}\n`)
}

let withoutSecrets: ((text: string) => string) | undefined

/** The same on stderr: errors, notices, questions. All of it is free text, and without the secrets that were told of by then. */
export function tell(text: string, end = '\n'): void {
  withoutSecrets ??= redactor().text
  stderr.write(`${terminalOf(stderr).text(inWhole(withoutSecrets(text)))}${end}`)
}

/** What we say is no progress bar: a name or a message that has a carriage return in it takes the place of none of our words. */
const inWhole = (text: string) => text.replace(/\r+(?!\n)/g, ' ')

/** Hands out data: as it is to a program or a file; on a terminal only what can be shown of it. */
export function give(data: string | Buffer): void {
  stdout.write(stdout.isTTY ? terminalOf(stdout).text(data.toString()) : data)
}

/** What could not be written to stdout, and whether a run is shown there. */
const output: { lost?: Error; isRun: boolean } = { isRun: false }

/**
 * Has what is being done go on where what it says can't be written: a pager that was left, a terminal that is gone, a disk that is full.
 * Called once, before anything is said.
 */
export function watchOutput(): void {
  stderr.on('error', () => {})
  stdout.on('error', (error: NodeJS.ErrnoException) => {
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
 * Has what code of playbooks writes to the console, to `process.stdout` and to `process.stderr`, and what Node warns of, go through this
 * door: straight to the terminal it would come with every secret and control character in it, and among what a run shows there.
 */
export function watchConsole(): void {
  const written = new Writable({
    decodeStrings: false,
    write: (text: string, _encoding: string, done: () => void) => {
      tell(text, '')
      done()
    },
  })
  globalThis.console = new Console({ stdout: written, colorMode: false })
  for (const [name, own] of Object.entries({ stdout, stderr })) {
    // Made when it is needed: most commands run no code of a playbook.
    let door: Writable | undefined
    const get = () => {
      if (!isPlaybooks()) return own
      door ??= lineDoor(name)
      return door
    }
    Object.defineProperty(process, name, { configurable: true, get })
  }
  // Node says them itself, unless it was told not to.
  if (process.listenerCount('warning') === 0) return
  process.removeAllListeners('warning')
  process.on('warning', ({ name, message }) => {
    if (name !== 'DeprecationWarning' || !process.noDeprecation) tell(`${name}: ${message}`)
  })
}

/** Milliseconds after which what has no newline yet is shown all the same. */
const patience = 1_000

/** What is written piece by piece, as whole lines: a secret may be in several of them. */
function lineDoor(name: string): Writable {
  const { line } = redactor()
  const lines = collectLines((text, goesOn) => tell(line(name, text, goesOn)))
  const decoder = new StringDecoder()
  let timer: NodeJS.Timeout | undefined
  process.once('exit', () => lines.end())
  return new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      lines.write(decoder.write(chunk))
      clearTimeout(timer)
      timer = setTimeout(() => lines.end(), patience).unref()
      done()
    },
  })
}
