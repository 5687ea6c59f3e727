// Which clusters of a fleet may be begun when, and what becomes of them, in PostgreSQL.
import anyTest, { type TestFn } from 'ava'
import { readFleet } from '../../../lib/fleet/definition/fleet-file.ts'
import { planWaves } from '../../../lib/fleet/definition/waves.ts'
import {
  addEvent,
  addFleet,
  clustersOf,
  eventsOf,
  lockFleet,
  requireCluster,
  requireFleet,
  wavesOf,
} from '../../../lib/fleet/store/fleets.ts'
import { oldFleets, pruneFleet } from '../../../lib/fleet/store/retention.ts'
import { type Bench, workOn } from '../../../lib/fleet/work/job.ts'
import { obey } from '../../../lib/fleet/work/orders.ts'
import { openQueue, type Queue } from '../../../lib/fleet/work/queue.ts'
import { advance } from '../../../lib/fleet/work/schedule.ts'
import { clusterLines, fleetFile } from '../_fleet-file.ts'
import { database, useDatabase } from './_database.ts'

// All tests at once: each is to have a connection, however slow the machine is; one comes before all others, since it writes much.
const { alone, real } = useDatabase(anyTest as TestFn, 'the store of fleets', 40)

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
    lostOf: async ids => new Set(ids.filter(id => jobs.get(id)?.state === 'failed')),
    judge: async () => {},
    take: async () => {},
    close: async () => {},
  }
}

async function begin(name: string, text: string) {
  const file = readFleet(fleetFile(`name: ${name}\n${text}`))
  const { maxParallel, heartbeat, gatesEvery, whenUnknown } = file
  const plan = { maxParallel, heartbeat, gatesEvery, whenUnknown, waves: planWaves(file) }
  const of = { name, playbook: 'x', playbookHash: 'x', hash: 'x', rekey: 'x', recipient: 'x', operator: 'me', plan }
  const id = await addFleet(database.query, of)
  const queue = queueOf()
  const changed = (set: string, cluster: string) =>
    database.query(`UPDATE rekey_fleet.cluster SET ${set} WHERE fleet = $1 AND name = $2`, [id, cluster])
  const notices: string[] = []
  return {
    ...{ id, queue, plan, changed, notices },
    cluster: (name: string) => requireCluster(database.query, id, name),
    events: async () => (await eventsOf(database.query, id)).map(({ text }) => text),
    /** Has a cluster worked on that was sent, by a worker that can make no file. */
    work: async (name: string) => {
      const { job } = await requireCluster(database.query, id, name)
      const bench = {
        ...{ database, file, id: 'w1', folder: '/dev/null/w1', signal: new AbortController().signal },
        fleet: await requireFleet(database.query, of.name),
        notice: (text: string) => notices.push(text),
      }
      const claimed = { id: job!, cluster: name, touch: async () => true, complete: async () => {} }
      await workOn(bench as unknown as Bench, claimed)
    },
    look: async () => {
      await advance(database, queue, { id, plan })
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
    /c2 begins a new run; the fleet stays halted/,
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

real(
  'while a wave soaks its gates are asked again and again; one that does not hold halts the fleet, and no word is said of those that do',
  async t => {
    const fleet = await begin(
      'watched',
      `max_parallel: 1\ngates_every: 5m\nclusters:\n${clusterLines(3)}\nwaves:\n  - { name: first, count: 2, soak: 1h, gates: [certs] }\n  - { name: second }`,
    )
    await fleet.look()
    await fleet.end('done', ['c1'])
    await fleet.look()
    await fleet.end('done', ['c2'])
    t.deepEqual(await fleet.look(), ['done', 'done', 'waiting'])
    t.deepEqual(await fleet.waves(), ['soaking', 'waiting'])
    t.deepEqual(await fleet.look(), ['done', 'done', 'waiting'], 'that was just now')

    const long = "since = now() - interval '6 minutes'"
    for (const name of ['c1', 'c2']) await fleet.changed(long, name)
    t.deepEqual(await fleet.look(), ['queued', 'waiting', 'waiting'], 'no more at a time than may be')
    const before = await fleet.events()
    await fleet.end('done', ['c1'])
    await fleet.changed('since = now()', 'c1')
    t.deepEqual(await fleet.look(), ['done', 'queued', 'waiting'])
    t.deepEqual(await fleet.events(), before)
    await database.query('UPDATE rekey_fleet.wave SET soak_until = now() WHERE fleet = $1', [fleet.id])
    t.deepEqual(await fleet.look(), ['done', 'queued', 'waiting'], 'what is asked is waited for')
    await fleet.work('c2')
    t.is((await fleet.cluster('c2')).state, 'failed')
    t.is(await fleet.state(), 'halted')
    const after = (await fleet.events()).slice(before.length)
    t.is(after.length, 2, after.join('\n'))
    t.regex(after.join('\n'), /^c2: failed: .*\nhalted: c2 of wave first did not come through/)

    await obey(database, 'watched', { kind: 'go-on', leaveFailed: false, operator: 'ada' })
    t.deepEqual(await fleet.look(), ['done', 'queued', 'waiting'])
    await fleet.end('done', ['c2'])
    await fleet.changed("since = now() + interval '1 second'", 'c2')
    t.deepEqual(await fleet.look(), ['queued', 'done', 'waiting'], 'asked before the soak was over')
    t.deepEqual(await fleet.waves(), ['gating', 'waiting'])
  },
)

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

real('whatever throws in a job has its cluster fail, and the fleet halts in that moment', async t => {
  const fleet = await begin('throws', `max_parallel: 2\nclusters:\n${clusterLines(2)}\nwaves: [{ name: all }]`)
  await fleet.look()
  await fleet.work('c1')
  const { state, error } = await fleet.cluster('c1')
  t.is(state, 'failed')
  t.regex(error ?? '', /^ENOTDIR: .*\/dev\/null\/w1/)
  t.is(await fleet.state(), 'halted', 'before anybody has looked')
  t.true((await fleet.events()).includes('halted: c1 of wave all did not come through, and none may fail'))
  await fleet.work('c2')
  t.is((await fleet.cluster('c2')).state, 'waiting', 'it was sent already, and is not begun')
})

real('a cluster that is taken over again and again, and comes no further, fails', async t => {
  const fleet = await begin('again', `clusters:\n${clusterLines(1)}\nwaves: [{ name: all }]`)
  await fleet.look()
  await fleet.changed("state = 'unknown', take_overs = 5", 'c1')
  await fleet.work('c1')
  t.regex((await fleet.cluster('c1')).error ?? '', /^it was taken over 5 times, and came no further/)
  await fleet.look()
  t.is(await fleet.state(), 'halted')
  await obey(database, 'again', { kind: 'retry', cluster: 'c1', operator: 'ada' })
  await fleet.look()
  await fleet.work('c1')
  t.like(await fleet.cluster('c1'), { state: 'failed', takeOvers: 0 }, 'from the beginning')
})

real('as many are begun once more as may be under way', async t => {
  const fleet = await begin(
    'many',
    `max_parallel: 2\nclusters:\n${clusterLines(4)}\nwaves: [{ name: all, failures: 4 }]`,
  )
  await fleet.look()
  await fleet.end('failed', ['c1', 'c2', 'c3', 'c4'])
  await obey(database, 'many', { kind: 'halt', why: 'a storm', operator: 'ada' })
  for (const cluster of ['c1', 'c2', 'c3']) await obey(database, 'many', { kind: 'retry', cluster, operator: 'ada' })
  t.deepEqual(await fleet.look(), ['queued', 'queued', 'waiting', 'failed'])
  await fleet.end('done', ['c1'])
  t.deepEqual(await fleet.look(), ['done', 'queued', 'queued', 'failed'])
})

real('what was put back half-way is gone on with first, and outside of its window', async t => {
  const closed = `, windows: [{ days: [${['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'][(new Date().getUTCDay() + 3) % 7]}], from: '10:00', to: '11:00' }]`
  const fleet = await begin(
    'half',
    `clusters:\n${clusterLines(3, index => (index === 2 ? closed : ''))}\nwaves: [{ name: all }]`,
  )
  await fleet.changed("run = 'r2'", 'c2')
  t.deepEqual(await fleet.look(), ['waiting', 'queued', 'waiting'])
})

real('once more by a new run, with another inventory, and when the fleet is through', async t => {
  const fleet = await begin('anew', `clusters:\n${clusterLines(2)}\nwaves: [{ name: all, failures: 1 }]`)
  await fleet.look()
  await fleet.end('failed', ['c1'])
  await fleet.changed("run = 'r1'", 'c1')
  await fleet.look()
  await fleet.end('done', ['c2'])
  await fleet.look()
  t.is(await fleet.state(), 'done')
  t.is((await fleet.events()).at(-1), 'the fleet is through: 1 wave, without c1: rekey fleet retry CLUSTER')
  const retry = (more: object) => obey(database, 'anew', { kind: 'retry', cluster: 'c1', operator: 'ada', ...more })
  t.is(await retry({ acceptChangedInventory: true }), 'c1 is gone on with.')
  t.like(await fleet.cluster('c1'), { run: 'r1', words: ['--accept-changed-inventory'] })
  t.is(await fleet.state(), 'running')
  t.deepEqual(await fleet.look(), ['queued', 'done'])
  await fleet.end('failed', ['c1'])
  await fleet.changed("task = 'gate'", 'c1')
  await fleet.look()
  t.is(await fleet.state(), 'done')
  t.is(
    await retry({ anew: true }),
    'c1 begins a new run. What r1 has done on its hosts stays as it is; its journal and backups stay in the store: rekey fleet export --folders FOLDER.',
  )
  t.like(await fleet.cluster('c1'), { run: null, task: 'run', words: ['--take-lock'] })
  await t.throwsAsync(retry({}), { code: 'fleet.no-retry' })

  await fleet.end('failed', ['c1'])
  await fleet.look()
  const leave = await obey(database, 'anew', { kind: 'go-on', leaveFailed: true, operator: 'ada' })
  t.regex(leave, /c1 stay as they are/)
  t.is(await fleet.state(), 'done')
  await database.query('UPDATE rekey_fleet.fleet SET pruned = now() WHERE id = $1', [fleet.id])
  await t.throwsAsync(retry({}), { code: 'fleet.nothing-to-do' })
})

real('nothing of a fleet that was given up is begun, whatever an operator has asked for', async t => {
  const fleet = await begin('given', `clusters:\n${clusterLines(1)}\nwaves: [{ name: all }]`)
  await fleet.look()
  await fleet.changed('asked = true', 'c1')
  await database.query("UPDATE rekey_fleet.fleet SET state = 'given-up' WHERE id = $1", [fleet.id])
  await fleet.work('c1')
  t.is((await fleet.cluster('c1')).state, 'waiting')
})

real('nobody is taken for lost before somebody has looked for a whole heartbeat without a pause', async t => {
  const fleet = await begin('steady', `heartbeat: 1h\nclusters:\n${clusterLines(1)}\nwaves: [{ name: all }]`)
  const look = async () => (await advance(database, fleet.queue, fleet))?.isSteady
  const since = (looked: string, steady: string) =>
    database.query(
      `UPDATE rekey_fleet.fleet SET looked = now() - interval '${looked}', steady = now() - interval '${steady}' WHERE id = $1`,
      [fleet.id],
    )
  t.false(await look())
  await since('1m', '50m')
  t.false(await look())
  await since('1m', '61m')
  t.true(await look())
  await since('31m', '6h')
  t.false(await look(), 'the database was away, or everybody')
  t.false(await look())
})

real('a cluster that ends while it is looked for those that are lost is none of them', async t => {
  const fleet = await begin('ends', `failures: 1\nclusters:\n${clusterLines(2)}\nwaves: [{ name: all }]`)
  await fleet.look()
  await fleet.changed("state = 'running', worker = 'w1'", 'c1')
  const { lostOf } = fleet.queue
  fleet.queue.lostOf = async (ids, boss) => {
    // As its worker says it, whose job is over then.
    await fleet.changed("state = 'failed', job = NULL", 'c1')
    for (const job of fleet.queue.jobs.values()) if (job.cluster === 'c1') job.state = 'failed'
    return lostOf(ids, boss)
  }
  t.deepEqual(await fleet.look(), ['failed', 'waiting'])
  t.false((await fleet.events()).some(text => text.includes('not heard of')))
})

real('whoever has the fleet locked is in nobody’s way who tells what happened', async t => {
  const { id } = await begin('lock', `clusters:\n${clusterLines(1)}\nwaves: [{ name: all }]`)
  await database.transaction(async query => {
    t.truthy(await lockFleet(query, id))
    t.is(await database.transaction(other => lockFleet(other, id)), undefined, 'one at a time')
    await addEvent(database.query, id, { kind: 'done', cluster: 'c1', text: 'c1: done' })
  })
  t.pass()
})

real('a job is lost that was taken from its worker, or whose worker was silent for too long', async t => {
  const queue = await openQueue(database, { name: 'jobs', heartbeat: 3_600, makes: true })
  t.teardown(() => queue.close())
  const send = (cluster: string) => database.transaction((_, boss) => queue.send({ cluster }, boss))
  const lost = (...ids: (string | undefined)[]) =>
    database.transaction(async (_, boss) => [...(await queue.lostOf(ids as string[], boss))])
  const [one, two] = [await send('c1'), await send('c2')]
  t.is(await send('c1'), undefined, 'one for each cluster')
  const claimed = [await queue.claim(), await queue.claim()]
  t.deepEqual(claimed.map(job => job?.id).sort(), [one, two].sort())
  await queue.judge()
  t.deepEqual(await lost(one, two), [])
  await database.query("UPDATE rekey_fleet_queue.job SET heartbeat_on = now() - interval '61m' WHERE id = $1", [one])
  t.deepEqual(await lost(one, two), [], 'nobody has judged')
  // pg-boss looks at a queue every two seconds at most.
  await database.query("UPDATE rekey_fleet_queue.queue SET monitor_claim_on = now() - interval '1m'")
  await queue.judge()
  t.deepEqual(await lost(one, two), [one])
  t.false(await claimed.find(job => job?.id === one)!.touch())
  await queue.take([two!])
  t.deepEqual((await lost(one, two)).sort(), [one, two].sort())
  t.truthy(await send('c1'))
})

alone(
  'of fleets that ended long ago what is stored goes; of one whose cluster stands half-way nothing does',
  async t => {
    const clusters = `${clusterLines(2)}\nwaves: [{ name: all }]`
    const plant = async (name: string, states: readonly string[], days: number, more = '') => {
      const { id } = await begin(name, `clusters:\n${clusters}`)
      for (const [index, state] of states.entries())
        await database.query(
          `UPDATE rekey_fleet.cluster SET run = 'r', state = $3${more} WHERE fleet = $1 AND name = $2`,
          [id, `c${index + 1}`, state],
        )
      await database.query(
        `INSERT INTO rekey_fleet.piece (fleet, cluster, run, id, bytes) SELECT $1, 'c1', 'r', n::text, 'x' FROM generate_series(1, 1200) AS n`,
        [id],
      )
      await database.query(
        `UPDATE rekey_fleet.fleet SET state = 'done', begun = now() - $2 * interval '1 day', ended = now() - $2 * interval '1 day' WHERE id = $1`,
        [id, days],
      )
      return id
    }
    const ninety = 90 * 86_400_000
    const oldOf = async (name: string) =>
      (await oldFleets(database.query, name, ninety)).map(({ id, half, runs }) => ({ id, half, runs }))
    const piecesOf = async (id: string) => {
      const [row] = await database.query<{ n: number }>(
        'SELECT count(*)::int AS n FROM rekey_fleet.piece WHERE fleet = $1',
        [id],
      )
      return row!.n
    }
    const through = await plant('through', ['done', 'undone'], 91)
    const young = await plant('through', ['done', 'done'], 89)
    t.deepEqual(await oldOf('through'), [{ id: through, half: [], runs: 1 }])
    t.true(await pruneFleet(database, through, 'ada'))
    t.deepEqual([await piecesOf(through), await piecesOf(young)], [0, 1200])
    t.is((await requireFleet(database.query, 'through', through)).prunedBy, 'ada')
    t.deepEqual(await oldOf('through'), [])

    const half = await plant('half', ['done', 'failed'], 91)
    t.deepEqual(await oldOf('half'), [{ id: half, half: ['c2'], runs: 1 }])
    t.false(await pruneFleet(database, half, 'ada'))
    t.is(await piecesOf(half), 1200)
    await plant('half', ['done', 'undone'], 2)
    t.like((await oldOf('half'))[0], { half: ['c2'] }, 'a later one that was undone has left it where it was')
    // A later one has brought it through.
    await plant('half', ['done', 'done'], 1)
    t.deepEqual(await oldOf('half'), [{ id: half, half: [], runs: 1 }])

    const left = await plant('left', ['done', 'failed'], 91, ', left_failed = true')
    t.deepEqual(await oldOf('left'), [{ id: left, half: [], runs: 1 }])
    await database.query("UPDATE rekey_fleet.fleet SET state = 'running', ended = NULL WHERE id = $1", [left])
    t.deepEqual(await oldOf('left'), [])
    t.false(await pruneFleet(database, left, 'ada'), 'it is worked on again meanwhile')
    t.is(await piecesOf(left), 1200)
  },
)
