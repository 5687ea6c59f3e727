// A keyset rotated gracefully on a real cluster: each stage killed once and gone on with, undone once, and judged from outside. For a CA no API
// server is started anew, and the old CA's certificates work until they are distrusted, and not a moment longer.
import { strict as assert } from 'node:assert'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import * as lab from '../../../lib/lab/index.ts'
import type { RunEvent } from '../../../lib/run/events.ts'
import { eventOf, eventsOf, killedAt, rekey, saidBy, upFresh } from '../_lab.ts'
import { filesOf, on } from '../_outside.ts'
import { type Extension, extensionName, startExtension } from './_extension.ts'
import { keepTokenKey, tokenStatuses } from './_tokens.ts'

let shape: lab.Shape
let extension: Extension

test.before(async () => {
  shape = await upFresh()
  for (const master of masters()) await on(shape, master, keepOld)
  // One that was started before the API was there knows nobody.
  const anew = 'kill $(grep -lzxE "(/[^ ]*/)?kube-scheduler" /proc/[0-9]*/cmdline | cut -d/ -f3)'
  for (const master of masters()) await on(shape, master, anew)
  await until(async () => (await statuses(`${old}/front-proxy-client`)).join() === '200')
  extension = await startExtension(shape)
})

/** Asks each second until it is so, for two minutes. */
async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (let attempt = 1; !(await isSo()); attempt++) {
    assert.ok(attempt < 120, 'not within two minutes')
    await delay(1_000)
  }
}

test.after.always(async () => {
  extension?.close()
  await lab.down(shape.name, () => {})
})

const masters = () => shape.machines.filter(({ role }) => role === 'master').map(({ name }) => name)
const pki = '/etc/kubernetes/pki'
const old = '/root/old-front-proxy'

/** Keeps what somebody had in hand before: the CA with its key, a certificate that it signed, and one that is forged with its key. */
const keepOld = `set -e; rm -rf ${old}; mkdir -m 700 ${old}; cd ${old}
cp ${pki}/front-proxy-ca.* ${pki}/front-proxy-client.* .
openssl req -new -newkey rsa:2048 -nodes -keyout forged.key -subj /CN=front-proxy-client -out forged.csr 2>/dev/null
printf 'extendedKeyUsage=clientAuth\n' >extensions
openssl x509 -req -in forged.csr -CA front-proxy-ca.crt -CAkey front-proxy-ca.key -CAcreateserial -days 30 -extfile extensions -out forged.crt 2>/dev/null`

/** The statuses that API server, controller-manager and scheduler of each master give to an administrator by the word of this proxy. */
const statuses = async (pair: string): Promise<string[]> => {
  const ask = (port: number) =>
    `curl -sk -o /dev/null -w '%{http_code} ' --cert ${pair}.crt --key ${pair}.key -H 'X-Remote-User: somebody' -H 'X-Remote-Group: system:masters' https://127.0.0.1:${port}/metrics`
  const said = await Promise.all(
    masters().map(master => on(shape, master, `${[6443, 10257, 10259].map(ask).join('; ')}; true`)),
  )
  return [...new Set(said.flatMap(text => text.trim().split(' ')))]
}

/** Which processes the API servers are, and since when. */
const apiServers = () => {
  const found = "grep -lzxE '(/[^ ]*/)?kube-apiserver' /proc/[0-9]*/cmdline"
  const since = `for f in $(${found}); do cut -d' ' -f1,22 "\${f%cmdline}stat"; done`
  return Promise.all(masters().map(master => on(shape, master, since)))
}

/** How many certificates each master's file of the CA holds. */
const held = async () => {
  const count = `grep -c BEGIN ${pki}/front-proxy-ca.crt`
  return [...new Set(await Promise.all(masters().map(master => on(shape, master, count))))].map(Number)
}

const words = (stage: string, more: Record<string, unknown> = {}) => [
  'run',
  `${stage}-keysets`,
  '-i',
  lab.inventoryPath(shape.name),
  '-e',
  JSON.stringify({ keysets: 'front-proxy-ca', ...more }),
]

/** Runs a stage, killed once as a step begins, and gone on with. Returns its folder. */
async function killedOnce(stage: string, step: string, more: Record<string, unknown> = {}): Promise<string> {
  let killed = false
  const fatal = (event: RunEvent) => {
    if (killed || event.kind !== 'step.started' || event.step !== step) return false
    killed = true
    return true
  }
  const first = await killedAt(words(stage, more), fatal)
  assert.equal(first.code, null, `it was killed: ${saidBy(first)}`)
  const { folder } = eventOf(eventsOf(first), 'run.started')
  const called = await rekey(['resume', folder, '--output', 'json'])
  assert.equal(called.code, 0, saidBy(called))
  const { sections } = eventOf(eventsOf(called), 'run.report')
  const workloads = sections.find(({ title }) => title === 'Workloads')?.rows ?? []
  assert.ok(workloads.length > 0)
  for (const [, said] of workloads) assert.match(said, /, 0 of them refused/)
  return folder
}

async function stageRun(stage: string, more: Record<string, unknown> = {}): Promise<void> {
  const called = await rekey([...words(stage, more), '--output', 'json'])
  assert.equal(called.code, 0, saidBy(called))
}

async function undone(folder: string): Promise<void> {
  const called = await rekey(['rollback', folder, '--output', 'json'])
  assert.equal(called.code, 0, saidBy(called))
}

/**
 * What the calls of an extension through each API server came to: some, and none was refused. A busy machine leaves one in hundreds without an answer, here or
 * at the API server that asks it.
 */
function extensionAnswered(t: ExecutionContext): void {
  const { calls, failures } = extension.seen()
  t.true(calls > 100, `${calls} calls`)
  const [unanswered, refused] = [true, false].map(is =>
    failures.filter(said => /nothing within|context deadline exceeded/.test(said) === is),
  )
  t.deepEqual(refused, [])
  t.true(unanswered!.length <= calls / 500, `${calls} calls: ${unanswered!.join(', ')}`)
}

test.serial(
  'an extension API server that hears of no new CA is named at the gate, and answers; once it has, the stage goes on',
  async t => {
    const before = await filesOf(shape)
    extension.hold()
    const called = await rekey([...words('stage'), '--output', 'json'])
    t.is(called.code, 2, saidBy(called))
    const { error } = eventOf(eventsOf(called), 'run.finished')
    t.is(error?.code, 'keysets.not-let-in')
    t.true(error?.message.includes(`extension API server ${extensionName} at`), error?.message)
    extension.release()
    const { folder } = eventOf(eventsOf(called), 'run.started')
    const resumed = await rekey(['resume', folder, '--output', 'json'])
    t.is(resumed.code, 0, saidBy(resumed))
    await undone(folder)
    t.deepEqual(await filesOf(shape), before)
    extensionAnswered(t)
  },
)

test.serial('staged, old and new are trusted; undone, every file is what it was', async t => {
  const before = await filesOf(shape)
  const processes = await apiServers()
  const folder = await killedOnce('stage', 'trust-the-new-cas')
  t.deepEqual(await held(), [2])
  await undone(folder)
  t.deepEqual(await filesOf(shape), before)
  t.deepEqual(await statuses(`${old}/front-proxy-client`), ['200'])
  await stageRun('stage')
  t.deepEqual(await held(), [2])
  t.deepEqual(await apiServers(), processes, 'no API server is started anew')
  extensionAnswered(t)
})

test.serial(
  'promoted, API servers speak by the new CA, and the old certificates work; undone, every file is what it was',
  async t => {
    const before = await filesOf(shape)
    const processes = await apiServers()
    const verified = `tail -n +1 ${pki}/front-proxy-ca.crt | openssl verify -CAfile ${old}/front-proxy-ca.crt ${pki}/front-proxy-client.crt >/dev/null 2>&1 && echo old || echo new`
    const folder = await killedOnce('promote', 'put-the-certificates-in-place')
    for (const master of masters()) t.is((await on(shape, master, verified)).trim(), 'new', master)
    t.deepEqual(await statuses(`${old}/front-proxy-client`), ['200'])
    await undone(folder)
    t.deepEqual(await filesOf(shape), before)
    await stageRun('promote')
    t.deepEqual(await statuses(`${pki}/front-proxy-client`), ['200'])
    t.deepEqual(await apiServers(), processes, 'no API server is started anew')
    extensionAnswered(t)
  },
)

test.serial(
  'distrusted, every server refuses what the old CA signed, and what is forged with its key; undone and trusted again, none does',
  async t => {
    const before = await filesOf(shape)
    const processes = await apiServers()
    const folder = await killedOnce('distrust', 'distrust-the-old-cas')
    t.deepEqual(await held(), [1])
    t.deepEqual(await statuses(`${old}/front-proxy-client`), ['401'])
    t.deepEqual(await statuses(`${old}/forged`), ['401'])
    t.deepEqual(await statuses(`${pki}/front-proxy-client`), ['200'])
    await undone(folder)
    t.deepEqual(await filesOf(shape), before)
    t.deepEqual(await statuses(`${old}/front-proxy-client`), ['200'])
    await stageRun('distrust')
    t.deepEqual(await statuses(`${old}/forged`), ['401'])
    await stageRun('trust')
    t.deepEqual(await statuses(`${old}/forged`), ['200'])
    t.deepEqual(await apiServers(), processes, 'no API server is started anew')
    extensionAnswered(t)
  },
)

test.serial(
  'all stages in one run, and in two; killed in the last and gone on with; undone as a whole, every file is what it was',
  async t => {
    await stageRun('distrust')
    const before = await filesOf(shape)
    const processes = await apiServers()
    const folder = await killedOnce('rotate', 'distrust-distrust-the-old-cas')
    t.deepEqual(await held(), [1])
    t.deepEqual(await statuses(`${old}/front-proxy-client`), ['401'])
    t.deepEqual(await statuses(`${pki}/front-proxy-client`), ['200'])
    await undone(folder)
    t.deepEqual(await filesOf(shape), before)
    t.deepEqual(await statuses(`${pki}/front-proxy-client`), ['200'])
    t.deepEqual(await apiServers(), processes, 'no API server is started anew')
    extensionAnswered(t)
  },
)

test.serial('finished, nothing is kept of the old CA, and it can’t be trusted again', async t => {
  const before = await filesOf(shape)
  const kept = () => on(shape, 'm1', 'find /var/backups/rekey/keysets -type f 2>/dev/null; true')
  t.regex(await kept(), /front-proxy-client\.key/)
  await stageRun('finish')
  t.is(await kept(), '')
  const called = await rekey([...words('trust'), '--output', 'json'])
  t.is(eventOf(eventsOf(called), 'run.finished').error?.code, 'keysets.nothing-to-trust', saidBy(called))
  t.deepEqual(await filesOf(shape), before)
  t.deepEqual(await statuses(`${old}/forged`), ['401'])
  extensionAnswered(t)
})

const administrator = '/etc/kubernetes/admin.conf'

test.serial(
  'the key of tokens promoted, those of before work; who holds one is named; distrusted, every API server refuses them, and one that is forged',
  async t => {
    const tokens = { keysets: 'service-account' }
    const kubectl = (script: string) =>
      on(shape, 'm1', `set -e; export KUBECONFIG=/etc/kubernetes/admin.conf; ${script}`)
    await keepTokenKey(shape, administrator, `${pki}/sa.key`)
    await killedOnce('rotate', 'promote-put-the-token-keys-in-place', { ...tokens, until: 'promoted' })
    t.deepEqual(await tokenStatuses(shape, administrator), {
      bound: ['200'],
      legacy: ['200'],
      forged: ['200'],
      new: ['200'],
    })

    const refused = await rekey([...words('distrust', tokens), '--output', 'json'])
    const { error } = eventOf(eventsOf(refused), 'run.finished')
    t.is(error?.code, 'keysets.old-in-use', saidBy(refused))
    t.regex(error?.message ?? '', /Secret canary-legacy\/caller-token/)
    const beside = (await kubectl('kubectl -n canary-legacy get secrets -o name'))
      .split('\n')
      .find(name => /caller-token-/.test(name))
    const secretName = beside?.replace('secret/', '')
    const patch = JSON.stringify({
      spec: { template: { spec: { volumes: [{ name: 'credentials', secret: { secretName } }] } } },
    })
    await kubectl(`kubectl -n canary-legacy patch deployment legacy-token-caller -p '${patch}'
kubectl -n canary-legacy rollout status deployment legacy-token-caller --timeout=180s
kubectl -n canary-legacy delete secret caller-token`)

    await stageRun('distrust', { ...tokens, accept: ['token/Secret canary/caller-token'] })
    t.deepEqual(await tokenStatuses(shape, administrator), {
      bound: ['401'],
      legacy: ['401'],
      forged: ['401'],
      new: ['200'],
    })
  },
)
