// Commands that went on when rekey was killed: whoever takes the run up again waits for them, so that nothing is done beside them.
import { setTimeout as delay } from 'node:timers/promises'
import { lookScript, runningScript } from '../../connection/commands/marker.ts'
import type { Connection } from '../../connection/connection.ts'
import { runScript } from '../../connection/files.ts'
import { UnknownOutcomeError } from '../../errors.ts'
import { firstFound } from './reconnect.ts'

/** For a question that takes the host no time. */
const patience = 15_000

/**
 * Waits until no command of the run goes on, on a host that was just connected to. What they print is read, or they would wait for
 * ever for somebody to do so.
 * @param folder of the run's markers, as a word for the host's shell
 * @param notice is told what is waited for, and how it ended
 */
export async function waitForLeftBehind(
  connection: Connection,
  folder: string,
  signal: AbortSignal,
  notice: (text: string) => void,
): Promise<void> {
  const { name } = connection
  /** Of which it was said that they run, and not yet how they ended. */
  const told = new Set<string>()
  /** Waits for one that runs. Returns whether there was one. */
  const waitForNext = async (): Promise<boolean> => {
    const script = runningScript(folder)
    const { stdout } = await runScript(connection, script, { asLogin: true, signal, timeout: patience })
    const [id] = stdout.toString('utf8').split('\n')
    if (!id) {
      for (const one of told) {
        const ended = await endOf(connection, folder, one, signal)
        told.delete(one)
        if (ended !== undefined) notice(`${name}: that command ended with status ${ended}`)
      }
      return false
    }
    const looking = connection.spawn(lookScript(folder, id), { asLogin: true, signal })
    const over = new Promise<void>((resolve, reject) => {
      looking.once('error', reject)
      looking.once('close', () => resolve())
    })
    over.catch(() => {})
    looking.stdin.end()
    const found = await firstFound(looking)
    if (found.is === 'running' && !told.has(id)) {
      told.add(id)
      const what = `a command that was begun before the run ended still runs there, as process ${found.pid}`
      // It may hang: what it reads from a machine that lost its power, sshd waits for, too.
      notice(`${name}: ${what} (to end it: pkill -s $(ps -o sid= -p ${found.pid})); waiting for its end`)
    }
    looking.stdout.resume()
    looking.stderr.resume()
    await over
    return true
  }
  // Lost once more, and asked once more: the connection comes back by itself. That it is gone may be heard a moment later.
  const again = async (error: unknown) => {
    if (error instanceof UnknownOutcomeError) return delay(100, true)
    throw error
  }
  while (await waitForNext().catch(again));
}

async function endOf(
  connection: Connection,
  folder: string,
  id: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  const looking = connection.spawn(lookScript(folder, id), { asLogin: true, signal, timeout: patience })
  looking.stdin.end()
  const found = await firstFound(looking)
  return found.is === 'ended' ? found.status : undefined
}
