// What all operations have in common, and those that need nothing but this machine: command, waitForPort.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { arch, hostname, release, totalmem, userInfo } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { connectLocal } from '../../lib/connection/local.ts'
import { secret } from '../../lib/connection/shell.ts'
import { modeKind } from '../../lib/operations/files/mode.ts'
import { command } from '../../lib/operations/system/command.ts'
import { facts, readFacts } from '../../lib/operations/system/facts.ts'
import { reboot } from '../../lib/operations/system/reboot.ts'
import { service } from '../../lib/operations/system/service.ts'
import { waitForPort } from '../../lib/operations/system/wait-for-port.ts'
import { temporaryFolder } from '../_temporary.ts'
import { localSettings, trial } from './_operation.ts'
import { openPorts, type PortCase } from './_ports.ts'

const listening = (server: Server) =>
  new Promise<number>(resolve =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  )

test('options that won’t do are told when the playbook is loaded, in one error each', t => {
  const told = (make: () => unknown, message: string) =>
    t.is(t.throws(make, { code: 'operation.options' } as never)?.message, message)
  told(
    () => command({ cmd: 'x', create: 'y' } as never),
    "command({ create }): there is no such option; did you mean 'creates'?",
  )
  told(() => command({ cmd: 'x', chdir: 7 } as never), 'command({ chdir }): it must be a text that is not empty, not 7')
  told(() => command({}), 'command(): one of cmd, argv and run must be given')
  told(() => command({ cmd: "it's" }), "command(): a quote does not end: it's")
  for (const cmd of ['   ', '"" x']) told(() => command({ cmd }), `command({ cmd }): there is no command in it: ${cmd}`)
  for (const mode of [400, 440, 444, 500, 644, 755]) t.false(modeKind.fits(mode))
  for (const mode of [0o400, 0o600, 0o640, 0o777, '0620']) t.true(modeKind.fits(mode))
  told(() => command('x' as never), "command() takes options, not 'x'")
  told(() => waitForPort({} as never), 'waitForPort() needs port')
  told(
    () => waitForPort({ port: 1, state: 'drained', from: 'here' }),
    'waitForPort(): connections are counted on the host',
  )
})

test('what was noted is undone only where it is what the operation notes: commands are made of it', async t => {
  const on = trial()
  const deeds = [[['status', 'x']], [['stop', "x'; touch y'"]], [['stop']], {}]
  const step = service({ name: 'x', state: 'started' })
  for (const noted of deeds)
    await t.throwsAsync(on.rollbackBy(step, 'service', noted), { message: /is not what it notes/ })
  t.is(on.commands, 0)
})

test('options may be made of the context, and are checked as those that stand there', async t => {
  const on = trial()
  const folder = temporaryFolder('operation')
  const made = command(({ host }) => ({ argv: ['touch', join(folder, host.name)], creates: join(folder, host.name) }))
  t.true((await on.run(made)).changed)
  t.false((await on.run(made)).changed)
  await t.throwsAsync(on.run(command(() => ({ cmd: 'x', nowhere: 1 }) as never)), { message: /no such option/ })
})

test('a command is run where what it makes is not there, and what it takes away is', async t => {
  const on = trial()
  const folder = temporaryFolder('operation')
  mkdirSync(join(folder, 'a folder'))
  const made = command({
    cmd: `sh -c 'cat >"made here"; pwd'`,
    chdir: join(folder, 'a folder'),
    creates: 'made*',
    stdin: secret('a text'),
  })
  t.deepEqual(await on.plan(made), [`run sh -c 'cat >"made here"; pwd'`])
  const first = await on.run(made)
  t.is((first.value as { stdout: string }).stdout, `${join(folder, 'a folder')}\n`)
  t.is(readFileSync(join(folder, 'a folder', 'made here'), 'utf8'), 'a text')
  t.deepEqual([await on.plan(made), (await on.run(made)).changed], [[], false])
  const gone = command({
    argv: ['rm', 'made here'],
    chdir: join(folder, 'a folder'),
    removes: `${folder}/a folder/[mn]ade here`,
  })
  t.true((await on.run(gone)).changed)
  t.false((await on.run(gone)).changed)
  await t.throwsAsync(on.run(command({ cmd: 'true', chdir: join(folder, 'nowhere'), creates: '/' })), {
    message: /nowhere can't be worked in/,
  })
  await t.throwsAsync(on.plan(command({ cmd: 'true', chdir: '~' })), { message: /~ can't be worked in/ })
  const piped = command({ run: $ => $`echo one | tr o 0` })
  t.is(((await on.run(piped)).value as { stdout: string }).stdout, '0ne\n')
  await t.throwsAsync(on.run(command({ cmd: 'false' })))
})

test('a port is waited for until it answers, does not, or is left by all; from the host and from here', async t => {
  const on = trial()
  const sockets: Socket[] = []
  const server = createServer(socket => void sockets.push(socket))
  const port = await listening(server)
  const quick = { port, sleep: 20, timeout: 10_000 }
  t.deepEqual(await on.plan(waitForPort(quick)), [])
  t.false((await on.run(waitForPort({ ...quick, from: 'here', host: '127.0.0.1' }))).changed)
  t.deepEqual(await on.plan(waitForPort({ ...quick, state: 'absent' })), [`wait for 127.0.0.1:${port} to be absent`])
  await t.throwsAsync(on.run(waitForPort({ ...quick, state: 'stopped', timeout: 50 })), {
    message: `waited 0 s for 127.0.0.1:${port} to be stopped`,
  })
  const client = connect(port, '127.0.0.1')
  await new Promise(resolve => server.once('connection', resolve))
  t.is((await on.plan(waitForPort({ ...quick, state: 'drained' }))).length, 1)
  t.deepEqual(await on.plan(waitForPort({ ...quick, state: 'drained', excludeHosts: ['127.0.0.1'] })), [])
  t.deepEqual(await on.plan(waitForPort({ ...quick, state: 'drained', host: '127.0.0.9' })), [])
  t.is((await on.plan(waitForPort({ ...quick, state: 'drained', host: '0.0.0.0' }))).length, 1)
  const gone = on.run(waitForPort({ ...quick, state: 'stopped' }))
  client.resetAndDestroy()
  for (const socket of sockets) socket.on('error', () => {}).destroy()
  server.close()
  t.false((await gone).changed)
  const back = on.run(waitForPort({ ...quick, state: 'started' }))
  server.listen(port, '127.0.0.1')
  t.false((await back).changed)
  server.close()
})

test('what a host is comes in one round trip, and is data, whatever it says', async t => {
  const on = trial()
  const step = facts()
  t.true(step.readOnly)
  const { value } = await on.run(step)
  t.is(on.commands, 1)
  const found = value as Awaited<ReturnType<typeof facts>>
  t.like(found, {
    kernel: release(),
    nodename: hostname(),
    architecture: { x64: 'x86_64', arm64: 'aarch64' }[arch() as 'x64'],
    userId: userInfo().username,
    userDir: userInfo().homedir,
  })
  t.true(Math.abs(found.memtotalMb - totalmem() / 2 ** 20) < 2)
  t.regex(found.bootId, /^[0-9a-f-]{36}$/)
  t.true(Math.abs(found.epoch - Date.now() / 1000) < 60)
  const odd = readFacts(
    '\n== m uname\n$(x)\n__proto__\n\n== m release\nID="__proto__"\n\n== m cpus\n\n== m end\n',
    '== m',
  )
  t.like(odd, { system: '$(x)', kernel: '__proto__', distribution: 'n/a', processorNproc: 1 })
})

test('a host that is started anew is waited for until it is in another boot, and does what is asked of it', async t => {
  const folder = temporaryFolder('reboot')
  const [boot, down, log] = ['boot', 'down', 'log'].map(name => join(folder, name)) as [string, string, string]
  writeFileSync(boot, 'first\n')
  const here = connectLocal('h1', localSettings)
  // A host that answers nothing while it is down.
  const there = {
    ...here,
    lost: undefined,
    spawn: (line: string, options?: object) =>
      here.spawn(
        `[ ! -e ${down} ] || exit 255\n${line.replaceAll('/proc/sys/kernel/random/boot_id', boot).replaceAll('/proc/1/stat', join(folder, 'none'))}`,
        options,
      ),
  }
  const on = trial(there, { ...localSettings, kind: 'ssh' })
  const asked = reboot({
    rebootCommand: `touch ${down}; echo down >>${log}; sleep 0.3; echo second >${boot}; echo up >>${log}; rm ${down}`,
    preRebootDelay: 10,
    testCommand: `echo asked >>${log}; [ $(grep -c asked ${log}) = 2 ]`,
    rebootTimeout: 60_000,
  })
  t.deepEqual(await on.plan(asked), ['reboot'])
  t.true((await on.run(asked)).changed)
  t.deepEqual(readFileSync(log, 'utf8').trim().split('\n'), ['down', 'up', 'asked', 'asked'])
  t.is(asked.irreversible, 'a host was started anew')
  const never = reboot({ rebootCommand: 'true', preRebootDelay: 1, rebootTimeout: 100 })
  await t.throwsAsync(on.run(never), { message: /^waited 0 s for h1 to be back, in another boot/ })
  await t.throwsAsync(trial().run(reboot({})), { message: /is the machine that rekey runs on/ })
})

test('a port counts as ansible-core counts it', async t => {
  const cases = JSON.parse(readFileSync(join(import.meta.dirname, 'ports.json'), 'utf8')) as PortCase[]
  const on = trial()
  const ports = await openPorts()
  try {
    for (const { about, port, options, ansible } of cases) {
      const planned = await on.plan(waitForPort({ port: ports.numbers[port], ...options }))
      t.is(planned.length === 0, ansible!, about)
    }
  } finally {
    ports.close()
  }
})
