// What commands on a host leave with the run that they are of.
import { getEventListeners } from 'node:events'
import test from 'ava'
import { connectLocal } from '../../lib/connection/local.ts'
import { remoteShell } from '../../lib/connection/remote.ts'

const connection = connectLocal('h1', { host: '127.0.0.1', port: 22, user: 'nobody' } as never)

/** How many signals were made of this one, of which it knows as long as it is there: Node says it to nobody. */
function dependentOf(signal: AbortSignal): number {
  const known = Object.getOwnPropertySymbols(signal).find(({ description = '' }) =>
    /dependant|dependent/i.test(description),
  )
  return known === undefined ? 0 : ((signal as unknown as Record<symbol, { size?: number }>)[known]?.size ?? 0)
}

test('the signals that are made of one are seen here', t => {
  const { signal } = new AbortController()
  const made = AbortSignal.any([signal, new AbortController().signal])
  made.addEventListener('abort', () => {})
  t.is(dependentOf(signal), 1)
  t.false(made.aborted)
})

test('the signal of a run ends a command that runs, and holds nothing of those that have ended: there may be a hundred thousand', async t => {
  const run = new AbortController()
  const $ = remoteShell(connection, { signal: run.signal })
  t.is(dependentOf(run.signal), 0)
  for (let count = 0; count < 5; count++) await $`true`
  for await (const line of $`echo a; sleep 60`) if (line === 'a') break
  const failed = await $`exit 3`.catch((error: Error) => error)
  t.true(failed instanceof Error)
  await t.throwsAsync($({ timeout: 100 })`sleep 60`)
  for (let tries = 0; tries < 200 && getEventListeners(run.signal, 'abort').length > 0; tries++)
    await new Promise(resolve => setTimeout(resolve, 20))
  t.deepEqual(getEventListeners(run.signal, 'abort'), [])
  t.is(dependentOf(run.signal), 0)
  const running = $`sleep 60`
  const ended = t.throwsAsync(running)
  setTimeout(() => run.abort(), 100)
  await ended
  await t.throwsAsync($`sleep 60`)
})
