// `--step`: asks on the terminal before each step whether to do it, as Ansible does.
import { createInterface } from 'node:readline/promises'
import { limiter } from '../../connection/limiter.ts'
import { CancelledError, RekeyError } from '../../errors.ts'
import { terminalOf } from '../../output/terminal.ts'
import { type Host, names } from '../../playbook/host.ts'

/** Throws where there is nobody to ask. */
export function requireTerminal(): void {
  if (process.stdin.isTTY) return
  throw new RekeyError('--step asks before each step, and there is no terminal to answer on', {
    code: 'run.no-terminal',
    hint: 'Run it from a terminal, or leave out --step; --check tells what each step would do.',
  })
}

/**
 * Asks about one step after the other: yes does it, no leaves it out, continue does it and asks no more. Just Enter is no.
 * @param signal aborted when the run is being stopped
 */
export function confirmSteps(signal: AbortSignal): (title: string, hosts: readonly Host[]) => Promise<boolean> {
  const oneByOne = limiter(1)
  let askNoMore = false
  return (title, hosts) =>
    oneByOne(async () => {
      const question = `Perform step: ${title} [${names(hosts.map(({ name }) => name))}] (N)o/(y)es/(c)ontinue: `
      for (;;) {
        if (askNoMore) return true
        const answer = (await ask(question, signal)).trim().toLowerCase()
        askNoMore = ['c', 'continue'].includes(answer)
        if (askNoMore || ['y', 'yes'].includes(answer)) return true
        if (['', 'n', 'no'].includes(answer)) return false
      }
    })
}

/** Asks one question that is answered by yes, in the word's full length; whatever else is typed is no. Throws where nobody is there to ask. */
export async function confirmed(question: string): Promise<boolean> {
  const interrupt = new AbortController()
  return (await ask(question, interrupt.signal)).trim().toLowerCase() === 'yes'
}

/**
 * Asks whether so many are to be removed, where that was not said.
 * @param code of the error
 * @throws RekeyError where it was not answered by yes, and where there is nobody to ask
 */
export async function requireRemoval(count: number, yes: boolean, code: string): Promise<void> {
  if (yes) return
  if (process.stdin.isTTY && (await confirmed(`Remove ${count}? Type 'yes' to go on: `))) return
  throw new RekeyError('nothing was removed', {
    code,
    hint: process.stdin.isTTY ? "It takes the whole word 'yes'." : 'There is no terminal to ask on: say --yes.',
  })
}

/** The line that is typed; `no` where the run is stopped. Rejects where the terminal goes away. */
async function ask(question: string, signal: AbortSignal): Promise<string> {
  // The terminal stays as it is, so that Ctrl-C goes where it always goes.
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: false })
  const ended = Promise.withResolvers<never>()
  lines.once('close', () =>
    ended.reject(new CancelledError('the terminal is gone, and nobody answers', { code: 'run.no-answer' })),
  )
  ended.promise.catch(() => {})
  try {
    return await Promise.race([lines.question(terminalOf(process.stderr).text(question), { signal }), ended.promise])
  } catch (error) {
    // Who is being stopped does nothing more, whatever the answer.
    if (signal.aborted) return 'no'
    throw error
  } finally {
    lines.close()
  }
}
