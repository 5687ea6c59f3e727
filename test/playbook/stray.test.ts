// What code of a playbook does behind everybody's back. That a run ends in order then, test/cli/mistakes.test.ts shows.
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { errorOf, HostFailedError, messageOf, shown } from '../../lib/errors.ts'
import { Stray, strayError, watchRun, within } from '../../lib/playbook/stray.ts'

test('what does not end although its run is being stopped is given up, and what begins afterwards, too', async t => {
  const stop = new AbortController()
  const release = watchRun('r1', stop.signal, () => {}, 50)
  const never = () => new Promise<never>(() => {})
  const waiting = within({ what: "'a'", run: 'r1' }, never)
  const other = within({ what: "'b'", run: 'r2' }, never)
  stop.abort()
  const kept = setInterval(() => {}, 1_000)
  const error = await t.throwsAsync(waiting, { instanceOf: HostFailedError })
  t.is(error?.message, "'a': did not end within 0.05 s after it was to")
  await t.throwsAsync(within({ what: 'its report', run: 'r1' }, never), { message: /^its report: did not end/ })
  t.is(await within({ what: 'its report', run: 'r1' }, () => delay(5, 'quick')), 'quick')
  t.is(await Promise.race([other, delay(100, 'goes on')]), 'goes on')
  clearInterval(kept)
  release()
})

test('a stray is told with whose it is and where it came from', t => {
  const place = { what: "'Restart'", run: 'r', step: { play: 1, id: 'restart', title: 'Restart', host: 'h1' } }
  const promise = strayError(new Stray(undefined, 'promise', place), new Error('refused')) as HostFailedError
  t.is(promise.message, "'Restart': a promise that nobody waited for failed: refused")
  t.regex(promise.hint ?? '', /^Write an await before it: it comes from .*stray\.test\.ts:\d+\.$/)
  t.is(promise.host, 'h1')
  const callback = strayError(new Stray(undefined, 'callback'), new Error('late'))
  t.is(callback.message, 'outside of any step: something failed in a timer or a callback: late')
})

test('whatever is thrown has a message, and looking at it throws nothing', t => {
  const hostile = new Error('x')
  Object.defineProperty(hostile, 'message', {
    get: () => {
      throw new Error('getter')
    },
  })
  const odd = [
    null,
    undefined,
    Symbol('x'),
    10n,
    Object.create(null),
    { code: 5 },
    Object.assign(new Error(), { message: 5 }),
    hostile,
  ]
  const trap = () => {
    throw new Error('trap')
  }
  odd.push(new Proxy({}, { get: trap, getPrototypeOf: trap, ownKeys: trap }), new Proxy(new Error('y'), { get: trap }))
  for (const thrown of odd) {
    t.is(typeof messageOf(thrown), 'string')
    t.is(typeof errorOf(thrown).message, 'string')
    t.true(shown(thrown).length <= 61)
  }
  t.is(messageOf('a text'), 'a text')
  t.is(messageOf(new TypeError()), 'TypeError')
  t.is(messageOf(null), 'what was thrown is no error: null')
  const error = new HostFailedError('x', { code: 'x' })
  t.is(errorOf(error), error)
})
