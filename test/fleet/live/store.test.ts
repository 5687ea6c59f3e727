// What is kept of runs in PostgreSQL, and who may change it; which clusters may be begun when.
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { readFleet } from '../../../lib/fleet/definition/fleet-file.ts'
import { planWaves } from '../../../lib/fleet/definition/waves.ts'
import { type Database, openPostgres } from '../../../lib/fleet/store/database.ts'
import { addFleet, clustersOf, requireFleet, wavesOf } from '../../../lib/fleet/store/fleets.ts'
import { keepFolder, restoreFolder } from '../../../lib/fleet/store/folders.ts'
import { openKey } from '../../../lib/fleet/store/key.ts'
import { makeTables } from '../../../lib/fleet/store/tables.ts'
import { obey } from '../../../lib/fleet/work/orders.ts'
import type { Queue } from '../../../lib/fleet/work/queue.ts'
import { advance } from '../../../lib/fleet/work/schedule.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { clusterLines, fleetFile } from '../_fleet-file.ts'
import { postgresMissing, startPostgres, type TestPostgres } from './_postgres.ts'

const test = anyTest as TestFn
const missing = postgresMissing()
if (missing) test.skip(`the store of fleets not tested: ${missing}`, () => {})
const real = missing ? test.skip : test

let server: TestPostgres
let database: Database
test.before(async () => {
  if (missing) return
  server = await startPostgres()
  database = await openPostgres(server.address)
  await makeTables(database)
})
test.after.always(async () => {
  await database?.close()
  await server?.stop()
})

/** A queue of which the test decides what becomes of the jobs. */
function queueOf(): Queue & { jobs: Map<string, { cluster: string; state: string }> } {
  const jobs = new Map<string, { cluster: string; state: string }>()
  return {
    jobs,
    send: async ({ cluster }) => {
      const id = crypto.randomUUID()
      jobs.set(id, { cluster, state: 'created' })
      return id
    },
    claim: async () => undefined,
    stateOf: async id => jobs.get(id)?.state,
    close: async () => {},
  }
}

async function begin(name: string, text: string) {
  const file = readFleet(fleetFile(`name: ${name}\n${text}`))
  const plan = { maxParallel: file.maxParallel, whenUnknown: file.whenUnknown, waves: planWaves(file) }
  const of = { name, playbook: 'x', playbookHash: 'x', hash: 'x', rekey: 'x', recipient: 'x', operator: 'me', plan }
  const id = await addFleet(database.query, of)
  const queue = queueOf()
  return {
    id,
    queue,
    look: async () => {
      await advance(database, queue, id)
      const rows = await clustersOf(database.query, id)
      return rows.map(({ state }) => state)
    },
    waves: async () => (await wavesOf(database.query, id)).map(({ state }) => state),
    /** Has the clusters end that were sent. */
    end: (state: string, clusters: readonly string[]) =>
      database.query('UPDATE rekey_fleet.cluster SET state = $2 WHERE fleet = $1 AND name = ANY($3::text[])', [
        id,
        state,
        clusters,
      ]),
    state: async () => (await requireFleet(database.query, name)).state,
  }
}

real('waves go in their order, as many at a time as may, behind approval, soak and gates', async t => {
  const waves = ['{ name: first, count: 2, soak: 1h, gates: [certs] }', '{ name: second, approval: true }']
  const fleet = await begin(
    'order',
    `max_parallel: 1\nclusters:\n${clusterLines(3)}\nwaves:\n${waves.map(one => `  - ${one}`).join('\n')}`,
  )
  t.deepEqual(await fleet.look(), ['queued', 'waiting', 'waiting'])
  t.deepEqual(await fleet.look(), ['queued', 'waiting', 'waiting'], 'not twice')
  await fleet.end('done', ['c1'])
  t.deepEqual(await fleet.look(), ['done', 'queued', 'waiting'])
  await fleet.end('done', ['c2'])
  await fleet.look()
  t.deepEqual(await fleet.waves(), ['soaking', 'waiting'])
  await database.query('UPDATE rekey_fleet.wave SET soak_until = now() WHERE fleet = $1', [fleet.id])
  t.deepEqual(await fleet.look(), ['queued', 'waiting', 'waiting'], 'its gates are asked')
  t.deepEqual(await fleet.waves(), ['gating', 'waiting'])
  await fleet.end('done', ['c1', 'c2'])
  t.deepEqual(await fleet.look(), ['done', 'done', 'waiting'])
  t.deepEqual(await fleet.waves(), ['passed', 'approval'])
  t.is(
    await obey(database, 'order', { kind: 'go-on', leaveFailed: false, operator: 'ada' }),
    'The fleet goes on: wave second is approved.',
  )
  t.deepEqual(await fleet.look(), ['done', 'done', 'queued'])
  await fleet.end('done', ['c3'])
  await fleet.look()
  t.is(await fleet.state(), 'done')
})

real('a wave over its budget halts the fleet; one within it does not; a gate that fails counts', async t => {
  const text = `max_parallel: 9\nclusters:\n${clusterLines(4)}\nwaves:\n  - { name: all, count: 3, failures: 1, gates: [validate] }\n  - { name: rest }`
  const fleet = await begin('budget', text)
  await fleet.look()
  await fleet.end('failed', ['c1'])
  await fleet.end('done', ['c2', 'c3'])
  t.deepEqual(await fleet.look(), ['failed', 'queued', 'queued', 'waiting'], 'within it: the gates are asked')
  await fleet.end('failed', ['c2'])
  await fleet.look()
  t.is(await fleet.state(), 'halted')
  t.deepEqual(await fleet.look(), ['failed', 'failed', 'queued', 'waiting'])
  t.regex(
    await obey(database, 'budget', { kind: 'retry', cluster: 'c2', operator: 'ada' }),
    /c2 is gone on with; the fleet stays halted/,
  )
  t.deepEqual(await fleet.look(), ['failed', 'queued', 'queued', 'waiting'])
  await fleet.end('done', ['c2', 'c3'])
  t.regex(await obey(database, 'budget', { kind: 'go-on', leaveFailed: true, operator: 'ada' }), /c1 stay as they are/)
  t.deepEqual(await fleet.look(), ['failed', 'done', 'done', 'queued'])
})

real(
  'who goes on after a halt approves nothing, who approves does nothing again, and nobody is lost who is begun once more',
  async t => {
    const waves = '{ name: first, count: 2, failures: 1 }\n  - { name: second, approval: true }'
    const fleet = await begin('word', `max_parallel: 9\nclusters:\n${clusterLines(3)}\nwaves:\n  - ${waves}`)
    const goOn = () => obey(database, 'word', { kind: 'go-on', leaveFailed: false, operator: 'ada' })
    await fleet.look()
    await fleet.end('failed', ['c1'])
    await fleet.end('done', ['c2'])
    await fleet.look()
    t.deepEqual(await fleet.waves(), ['passed', 'approval'])
    await obey(database, 'word', { kind: 'halt', why: 'a storm', operator: 'ada' })
    t.is(await goOn(), 'The fleet goes on: once more with c1.')
    t.deepEqual(await fleet.waves(), ['passed', 'approval'], 'not approved')
    t.deepEqual(await fleet.look(), ['queued', 'done', 'waiting'], 'of a wave that is through it is begun, too')
    await fleet.end('failed', ['c1'])
    t.is(await goOn(), 'The fleet goes on: wave second is approved.')
    t.deepEqual(await fleet.look(), ['failed', 'done', 'queued'], 'nothing again')
    await fleet.end('done', ['c3'])
    await obey(database, 'word', { kind: 'retry', cluster: 'c1', operator: 'ada' })
    await fleet.look()
    await fleet.look()
    t.is(await fleet.state(), 'running', 'one is under way')
    await fleet.end('done', ['c1'])
    await fleet.look()
    t.is(await fleet.state(), 'done')
  },
)

real('a cluster that is begun once more while its wave soaks is waited for, and asked what the gates ask', async t => {
  const fleet = await begin(
    'soak',
    `max_parallel: 9\nclusters:\n${clusterLines(3)}\nwaves:\n  - { name: first, count: 2, failures: 1, soak: 1h, gates: [certs] }\n  - { name: second }`,
  )
  await fleet.look()
  await fleet.end('failed', ['c1'])
  await fleet.end('done', ['c2'])
  await fleet.look()
  await obey(database, 'soak', { kind: 'retry', cluster: 'c1', operator: 'ada' })
  await database.query('UPDATE rekey_fleet.wave SET soak_until = now() WHERE fleet = $1', [fleet.id])
  t.deepEqual(await fleet.look(), ['queued', 'done', 'waiting'])
  t.deepEqual(await fleet.waves(), ['soaking', 'waiting'])
  await fleet.end('done', ['c1'])
  t.deepEqual(await fleet.look(), ['queued', 'queued', 'waiting'])
  t.deepEqual(await fleet.waves(), ['gating', 'waiting'])
})

real('a cluster waits for its window; halted, nothing is begun', async t => {
  const closed = `, windows: [{ days: [${['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'][(new Date().getUTCDay() + 3) % 7]}], from: '10:00', to: '11:00' }]`
  const fleet = await begin(
    'window',
    `max_parallel: 9\nclusters:\n${clusterLines(2, index => (index === 1 ? closed : ''))}\nwaves: [{ name: all }]`,
  )
  t.deepEqual(await fleet.look(), ['waiting', 'queued'])
  await obey(database, 'window', { kind: 'halt', why: 'a storm', operator: 'ada' })
  await database.query("UPDATE rekey_fleet.cluster SET state = 'waiting', job = NULL WHERE fleet = $1", [fleet.id])
  t.deepEqual(await fleet.look(), ['waiting', 'waiting'])
})

real('a cluster whose job is over without a word is unknown, and waits for somebody to look', async t => {
  const fleet = await begin('lost', `clusters:\n${clusterLines(1)}\nwaves: [{ name: all }]`)
  await fleet.look()
  await fleet.end('running', ['c1'])
  t.deepEqual(await fleet.look(), ['running'])
  for (const job of fleet.queue.jobs.values()) job.state = 'failed'
  t.deepEqual(await fleet.look(), ['unknown'])
  t.is(fleet.queue.jobs.size, 2)
})

real(
  'the folder of a run comes back as it was, and nothing of it is readable; what somebody changed is refused',
  async t => {
    const { id } = await begin('folders', `clusters:\n${clusterLines(1)}\nwaves: [{ name: all }]`)
    const key = await openKey(join(temporaryFolder('key'), 'key.txt'), true)
    const folder = mkdtempSync(join(temporaryFolder('run'), 'run-'))
    for (const name of ['secrets', 'claims', 'output', 'before']) mkdirSync(join(folder, name))
    const large = Buffer.alloc(700 * 1024, 'etcd ')
    writeFileSync(join(folder, 'events.jsonl'), '{"kind":"hidden"}\n')
    writeFileSync(join(folder, 'secrets', 'command.json'), 'hidden')
    writeFileSync(join(folder, 'before', 'large'), large)
    writeFileSync(join(folder, 'claims', '0'), 'mine')
    writeFileSync(join(folder, 'output', 'run.log'), 'printed')
    const of = { fleet: id, cluster: 'c1', run: 'r1' }
    const kept = keepFolder(database, key, of, folder)
    await kept.store(async () => {})
    const dump = await database.query<{ text: string }>(
      "SELECT encode(bytes, 'escape') || id AS text FROM rekey_fleet.piece WHERE fleet = $1",
      [id],
    )
    t.is(dump.length, 5)
    t.false(dump.some(({ text }) => /hidden|etcd|command|before/.test(text)))

    const back = join(temporaryFolder('back'), 'r1')
    await restoreFolder(database.query, key, of, back)
    t.is(readFileSync(join(back, 'secrets', 'command.json'), 'utf8'), 'hidden')
    t.deepEqual(readFileSync(join(back, 'before', 'large')), large)
    t.throws(() => readFileSync(join(back, 'claims', '0')))
    t.throws(() => readFileSync(join(back, 'output', 'run.log')))

    // Who has it no more writes nothing.
    writeFileSync(join(folder, 'events.jsonl'), '{"kind":"hidden"}\n{"kind":"later"}\n')
    await t.throwsAsync(
      kept.store(async () => Promise.reject(new Error('lost'))),
      { message: 'lost' },
    )
    await restoreFolder(database.query, key, of, back)
    t.is(readFileSync(join(back, 'events.jsonl'), 'utf8'), '{"kind":"hidden"}\n')
    await kept.store(async () => {}, true)
    await restoreFolder(database.query, key, of, back)
    t.is(readFileSync(join(back, 'events.jsonl'), 'utf8'), '{"kind":"hidden"}\n{"kind":"later"}\n')
    t.is(readFileSync(join(back, 'output', 'run.log'), 'utf8'), 'printed')

    // Also of somebody who has the key, nothing is written beside the folder.
    for (const path of ['../beside', '/tmp/beside', 'a/../../beside', 'a//b']) {
      const piece = createHash('sha256').update(`${path}\0${0}`).digest('hex').slice(0, 40)
      const bytes = await key.seal([id, 'c1', 'out', piece], Buffer.from(`${JSON.stringify({ path, index: 0 })}\nx`))
      await database.query(
        "INSERT INTO rekey_fleet.piece (fleet, cluster, run, id, bytes) VALUES ($1, 'c1', 'out', $2, $3)",
        [id, piece, bytes],
      )
      await t.throwsAsync(restoreFolder(database.query, key, { ...of, run: 'out' }, join(back, 'out')), {
        message: /names a file outside of its folder/,
      })
      await database.query("DELETE FROM rekey_fleet.piece WHERE fleet = $1 AND run = 'out'", [id])
    }

    const other = await openKey(join(temporaryFolder('key'), 'key.txt'), true)
    await t.throwsAsync(restoreFolder(database.query, other, of, back), { message: /can't be read with/ })
    await database.query("UPDATE rekey_fleet.piece SET run = 'r2' WHERE fleet = $1", [id])
    await t.throwsAsync(restoreFolder(database.query, key, { ...of, run: 'r2' }, back), {
      message: /not written by a worker of the fleet for this place/,
    })
  },
)
