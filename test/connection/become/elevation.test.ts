// What is heard before a command runs as somebody else: who gets the password, and what becomes of the rest.
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { mock } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import test from 'ava'
import type { BecomeCommand } from '../../../lib/connection/become/become.ts'
import { createElevator } from '../../../lib/connection/become/elevation.ts'
import type { BecomeSettings, ConnectionSettings } from '../../../lib/connection/settings.ts'
import type { RekeyError } from '../../../lib/errors.ts'

const password = 'correct horse battery'
const id = '5d0ff5a0-0000-4000-8000-000000000000'

/** A command that is becoming somebody, and what passes between it and us. */
function becoming(become: Partial<BecomeSettings> = {}) {
  const settings = { user: 'me', become: { method: 'sudo', user: 'root', password, ...become } } as ConnectionSettings
  const elevator = createElevator('h1', settings)
  const wrapped = elevator.wrap('true', id)
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const terminal = wrapped.onTerminal ? { stdin: new PassThrough(), stdout: new PassThrough() } : undefined
  const into = { stdout: new PassThrough(), stderr: new PassThrough() }
  const attached = elevator.attach(wrapped, { stdin, stdout, stderr, terminal }, into)
  attached.catch(() => {})
  const given = () => String((terminal?.stdin ?? stdin).read() ?? '')
  const end = () => {
    for (const stream of [stdout, stderr, terminal?.stdout]) stream?.end()
  }
  return { elevator, wrapped, stdin, stdout, stderr, terminal, into, attached, given, end }
}

const announced = ({ announced }: BecomeCommand) => `${announced}\n`
const prompt = ({ asking }: BecomeCommand) => (asking?.by === 'prompt' ? asking.words : '')

test('sudo is answered where it asks in our words, wherever they are split', async t => {
  const { wrapped } = becoming()
  const [question, begins] = [prompt(wrapped), announced(wrapped)]
  const whole = `Lecture:\n${question}${begins}the command's own\n`
  for (let at = 1; at < whole.length; at++) {
    const one = becoming()
    one.stderr.write(whole.slice(0, at))
    await turn()
    one.stderr.write(whole.slice(at))
    one.stdout.write(`${begins}out`)
    await one.attached
    t.is(one.given(), `${password}\n`)
    for (const stream of [one.stdout, one.stderr, one.into.stdout, one.into.stderr]) stream.end()
    t.deepEqual([await text(one.into.stdout), await text(one.into.stderr)], ['out', "the command's own\n"])
  }
})

test('nothing else is a question of sudo: not on stdout, not what looks like one, not what the command says', async t => {
  const one = becoming()
  const [question, begins] = [prompt(one.wrapped), announced(one.wrapped)]
  one.stdout.write(`[sudo] password for me: ${question}`)
  one.stderr.write('[sudo] password for me: ')
  await turn()
  one.stderr.write(`${begins}${question}Password: `)
  await one.attached
  one.stdout.write(`${begins}${question}user:`)
  await turn()
  t.is(one.given(), '')
  for (const stream of [one.stdout, one.stderr, one.into.stdout, one.into.stderr]) stream.end()
  t.is(await text(one.into.stdout), `${question}user:`)
})

test('what is said before the command is read in linear time, and not kept', async t => {
  const one = becoming()
  const base64 = Buffer.alloc(64 * 1024, 'a')
  const started = process.cpuUsage()
  for (let count = 0; count < 1_000; count++) {
    if (!one.stdout.write(base64) || !one.stderr.write(base64)) await turn()
  }
  one.stderr.write(announced(one.wrapped))
  one.stdout.write(announced(one.wrapped))
  await one.attached
  t.true(process.cpuUsage(started).user < 10_000_000)
  const two = becoming()
  for (let count = 0; count < 100; count++) two.stderr.write(base64)
  two.end()
  const error = await t.throwsAsync<RekeyError>(two.attached)
  t.true(error!.message.length < 500)
})

test('asked twice, the password was wrong: it is not given again, and no later command tries it', async t => {
  const one = becoming()
  const question = prompt(one.wrapped)
  one.stderr.write(`${question}`)
  await turn()
  t.is(one.given(), `${password}\n`)
  one.stderr.write(`Sorry, \x1b]0;PWNED\x07${password}, try again.\n${question}`)
  const error = await t.throwsAsync<RekeyError>(one.attached)
  t.is(error?.message, 'h1: sudo did not accept the password to become root')
  t.is(error?.code, 'become.password')
  t.is(one.given(), '')
  t.is(one.elevator.refused, error as never)
})

test('su gets the password as a first line that its command never sees, and says whether it asked', async t => {
  const one = becoming({ method: 'su' })
  t.is(one.given(), `${password}\n`)
  t.notRegex(one.wrapped.command, /horse/)
  one.stderr.write('Password: su: Authentication failure\x1b[31m\n')
  one.end()
  const error = await t.throwsAsync<RekeyError>(one.attached)
  t.is(error?.message, 'h1: su did not accept the password to become root: su: Authentication failure')
  const two = becoming({ method: 'su' })
  two.stderr.write('su: user root does not exist\n')
  two.end()
  const other = await t.throwsAsync<RekeyError>(two.attached)
  t.is(other?.code, 'become.failed')
  t.is(two.elevator.refused, undefined)
  const three = becoming({ method: 'su', password: undefined })
  t.is(three.given(), '')
  three.stderr.write('Password: su: Authentication failure\n')
  three.end()
  const missing = await t.throwsAsync<RekeyError>(three.attached)
  t.is(missing?.code, 'become.password-missing')
})

test("doas is answered on its terminal: its own question at once, another's when nothing follows it", async t => {
  const one = becoming({ method: 'doas' })
  one.stderr.write('Password: ')
  one.terminal?.stdout.write('\rdoas (me@here) password: ')
  await turn()
  t.is(one.given(), `${password}\n`)
  one.terminal?.stdout.write(`\r\n${announced(one.wrapped)}`)
  one.stdout.write(announced(one.wrapped))
  await one.attached
  const two = becoming({ method: 'doas' })
  two.terminal?.stdout.write('Last login:')
  await turn()
  two.terminal?.stdout.write(' never\r\n')
  await turn()
  t.is(two.given(), '')
  two.terminal?.stdout.write('Passwort: ')
  await new Promise(resolve => setTimeout(resolve, 400))
  t.is(two.given(), `${password}\n`)
  two.end()
})

test.serial('a program that never lets us through is given up', async t => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const one = becoming()
  one.stderr.write('waiting for your telephone\n')
  await turn()
  mock.timers.tick(90_001)
  const error = await t.throwsAsync<RekeyError>(one.attached)
  t.is(error?.message, 'h1: sudo did not let us become root within 90 s: waiting for your telephone')
  t.is(error?.code, 'become.timeout')
})
