// The door through which commands speak: no text that comes from a host, a file or a name moves the cursor of whoever reads it.
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
