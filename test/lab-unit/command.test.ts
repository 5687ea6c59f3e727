// Programs of the control machine, and waiting for things.
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { command, tryCommand, waitFor } from '../../lib/lab/command.ts'
import { type Progress, timed } from '../../lib/lab/progress.ts'

test.serial('a program gets its input and environment, and its lines are seen as they come', async t => {
  const lines: string[] = []
  const output = await command('sh', ['-c', 'cat; echo "$GREETING" >&2; echo done'], {
    input: 'first\n',
    environment: { GREETING: 'hello' },
    onLine: line => lines.push(line),
  })
  t.is(output, 'first\ndone\n')
  t.deepEqual([...lines].sort(), ['done', 'first', 'hello'])
})

test.serial('a program that fails is named with its exit code and the end of what it said', async t => {
  const error = await t.throwsAsync<RekeyError>(command('sh', ['-c', 'echo why >&2; exit 3']), {
    code: 'lab.command-failed',
  })
  t.regex(error.message, /^sh .*exit code 3: why$/s)
  t.is((await tryCommand('sh', ['-c', 'exit 3'])).code, 3)
})

test.serial('a program that is not there is named', async t => {
  await t.throwsAsync(command('no-such-program', []), { code: 'lab.no-program', message: /no-such-program/ })
})

test.serial('a program that takes too long is ended with all that it started', async t => {
  const marker = `${7_000_000 + process.pid}`
  await t.throwsAsync(command('sh', ['-c', `sleep ${marker} & sleep ${marker}`], { timeout: 0.3 }), {
    code: 'lab.command-timeout',
  })
  await waitFor('the sleeping processes to end', 60, async () => {
    const { stdout } = await tryCommand('ps', ['-eo', 'args'])
    return !stdout.includes(`sleep ${marker}`) || undefined
  })
  t.pass()
})

test.serial('a wait that was in vain says what for', async t => {
  await t.throwsAsync(
    waitFor('the moon', 0.1, () => undefined, { every: 10, hint: () => 'It is new.' }),
    { code: 'lab.timeout', message: 'waited 0.1 s for the moon' },
  )
})

test.serial('long work is heard of at least every two seconds, with what it is at', async t => {
  const heard: Progress[] = []
  await timed(
    progress => heard.push(progress),
    'Wait',
    async detail => {
      detail('half way')
      await new Promise(resolve => setTimeout(resolve, 2050))
    },
  )
  t.deepEqual([...new Set(heard.map(({ kind }) => kind))], ['started', 'running', 'finished'])
  t.like(heard[1], { title: 'Wait', detail: 'half way' })
})
