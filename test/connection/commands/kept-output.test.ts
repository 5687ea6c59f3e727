// What is kept of a command's output: all of it, or a refusal, and never a part that is taken for the whole.
import { once } from 'node:events'
import { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import type { ProcessOutput } from 'zx/core'
import { connectLocal } from '../../../lib/connection/local.ts'
import { remoteShell } from '../../../lib/connection/remote.ts'
import type { ConnectionSettings } from '../../../lib/connection/settings.ts'
import type { RekeyError } from '../../../lib/errors.ts'

const $ = remoteShell(connectLocal('h1', { user: 'me' } as ConnectionSettings))
/** Prints 35 MB, a hundred characters a line, numbered. */
const much = 'seq -f %099.0f 350000'
const refused = { message: 'h1: the command printed more than the 32 MiB that are kept of it' }

test('too much output is no failure; whoever reads it as a whole is told how to read it', async t => {
  const output = await $`${['sh', '-c', `echo small >&2; ${much}`]}`
  t.is(output.exitCode, 0)
  t.is(output.stderr, 'small\n')
  for (const read of [
    () => output.stdout,
    () => output.stdall,
    () => output.lines(),
    () => `${output}`,
    () => output.stdout,
  ]) {
    const error = t.throws<RekeyError>(read, refused)
    t.is(error?.code, 'command.output-too-long')
    t.regex(error?.hint ?? '', /for await/)
  }
  const half = await $`${['sh', '-c', 'seq -f %099.0f 175000; seq -f %099.0f 175000 >&2']}`
  t.is(half.stdout.length, 17_500_000)
  t.is(half.stderr.length, 17_500_000)
  t.throws(() => half.text(), refused)
})

test('a command that failed after much output is quoted by its beginning and its end', async t => {
  const output = await t.throwsAsync<Error & ProcessOutput>(async () => $`${['sh', '-c', `(${much}) >&2; exit 3`]}`)
  t.is(output?.exitCode, 3)
  t.true(output!.stderr.length < 300_000)
  t.regex(output!.stderr, /^0{98}1\n/)
  t.regex(output!.stderr, /\n… \d{8} characters of this were not kept …\n/)
  t.true(output!.stderr.endsWith('350000\n'))
  const omitted = Number(/… (\d+) /.exec(output!.stderr)?.[1])
  t.is(output!.stderr.replace(/\n… .* …\n/, '').length + omitted, 35_000_000)
})

test('line by line all of it comes, however slowly it is read, and none is held back for long', async t => {
  let count = 0
  for await (const line of $`sh -c ${much}`) {
    if (Number(line) !== ++count) return t.fail(`line ${count} is ${line}`)
    if (count % 100_000 === 0) await delay(100)
  }
  t.is(count, 350_000)
})

test('through a pipe all of it comes, and waits where nobody reads', async t => {
  let size = 0
  let waiting = 0
  const slow = new Writable({
    write: (chunk: Buffer, _, done) => {
      size += chunk.length
      waiting = Math.max(waiting, slow.writableLength)
      setTimeout(done, 1)
    },
  })
  const finished = once(slow, 'finish')
  await $`sh -c ${much}`.pipe(slow)
  await finished
  t.is(size, 35_000_000)
  t.true(waiting < 2 * 1024 * 1024, String(waiting))
  t.is((await $`sh -c ${much}`.pipe`sleep 0.3; wc -c`).stdout.trim(), '35000000')
  // Who reads no more ends neither it nor us.
  t.is((await $`sh -c ${much}`.pipe`head -n 1`.nothrow()).stdout.length, 100)
})

test('who comes too late for the beginning is refused', async t => {
  const running = $`${['sh', '-c', `${much}; sleep 1`]}`
  await delay(10)
  const slow = (async () => {
    let count = 0
    for await (const _ of running) if (++count === 1) await delay(2_000)
    return count
  })()
  // Either it read all of it, or it was told that it could not.
  slow.then(count => t.is(count, 350_000)).catch(error => t.is(error.message, refused.message))
  const given = () => Object.getOwnPropertyDescriptor(running, 'pipe')?.value
  while (given()) await delay(20)
  t.throws(() => running.pipe(new Writable()), refused)
  await t.throwsAsync(async () => {
    for await (const _ of running) t.fail()
  }, refused)
  await slow.catch(() => {})
  t.is((await running).exitCode, 0)
})
