// Questions to the operator whose answers must not be seen.
import { openSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { ReadStream } from 'node:tty'
import { CancelledError, RekeyError } from '../../errors.ts'
import { tell } from '../../output/print.ts'
import { tellSecret } from '../../secrets/index.ts'

/**
 * Asks on the terminal without showing what is typed, also where stdin is something else.
 * @throws RekeyError where there is no terminal
 * @throws CancelledError at Ctrl-C
 */
export function askHidden(prompt: string): Promise<string> {
  let input: ReadStream
  try {
    input = new ReadStream(openSync('/dev/tty', 'r+'))
  } catch (cause) {
    const what = prompt.replace(/(?<![:\s])[:\s]+$/, '')
    throw new RekeyError(`there is no terminal to ask for this on: ${what}`, {
      code: 'cli.no-terminal',
      hint: 'Passwords can come from the inventory (ansible_become_password, ansible_password), encrypted with ansible-vault; keys from an agent.',
      cause,
    })
  }
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = createInterface({ input, output: silent, terminal: true })
  // Only now nothing is shown any more: who types ahead of the question is seen.
  tell(prompt, '')
  return new Promise<string>((resolve, reject) => {
    const cancel = () => reject(new CancelledError('nothing was typed', { code: 'run.cancelled' }))
    terminal.once('line', line => {
      // What must not be seen while it is typed must not be seen afterwards.
      tellSecret(line, `the answer to '${prompt.trim()}'`)
      resolve(line)
    })
    terminal.once('SIGINT', cancel).once('close', cancel)
  }).finally(() => {
    terminal.close()
    input.destroy()
    tell('')
  })
}
