// What is kept of runs in PostgreSQL, and who may change it.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { addFleet, requireFleet } from '../../../lib/fleet/store/fleets.ts'
import { keepFolder, restoreFolder } from '../../../lib/fleet/store/folders.ts'
import { openKey } from '../../../lib/fleet/store/key.ts'
import { exportOf } from '../../../lib/fleet/told/export.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { database, useDatabase } from './_database.ts'

const { real } = useDatabase(anyTest as TestFn, 'the folders of runs')

/** A fleet of one cluster, which is begun with `run`. Returns its id. */
async function begin(name: string, run: string) {
  const plan = {
    maxParallel: 1,
    heartbeat: 60,
    gatesEvery: 600_000,
    whenUnknown: 'resume' as const,
    receivers: [],
    waves: [],
  }
  const of = { name, playbook: 'x', playbookHash: 'x', hash: 'x', rekey: 'x', recipient: 'x', operator: 'me', plan }
  const id = await addFleet(database.query, of)
  await database.query("INSERT INTO rekey_fleet.cluster (fleet, name, wave, place, run) VALUES ($1, 'c1', 0, 1, $2)", [
    id,
    run,
  ])
  return id
}

real('an export has the run of each cluster, and those before it that were left for a new one', async t => {
  const id = await begin('told', 'r2')
  const key = await openKey(join(temporaryFolder('key'), 'key.txt'), true)
  for (const run of ['r1', 'r2']) {
    const folder = mkdtempSync(join(temporaryFolder('run'), 'run-'))
    const started = {
      ...{ kind: 'run.started', mode: 'run', run, folder: '/any', playbook: 'x', summary: 'any', inventory: [] },
      ...{ operator: 'root', check: false, plays: [], selection: { forks: 1, extraVars: [] }, at: 1 },
      process: { machine: 'vm', pid: 1, started: '1', scope: 'none' },
    }
    writeFileSync(join(folder, 'events.jsonl'), `${JSON.stringify(started)}\n`)
    await keepFolder(database, key, { fleet: id, cluster: 'c1', run }, folder).store(async () => {})
  }
  const folders = join(temporaryFolder('folders'), 'runs')
  const told = (await exportOf(database, key, await requireFleet(database.query, 'told'), folders)) as {
    clusters: { run: { run: string }; earlier_runs: { run: string }[] }[]
  }
  t.is(told.clusters[0]?.run.run, 'r2')
  t.deepEqual(
    told.clusters[0]?.earlier_runs.map(({ run }) => run),
    ['r1'],
  )
  t.true(existsSync(join(folders, 'r1', 'events.jsonl')))
})

real(
  'the folder of a run comes back as it was, and nothing of it is readable; what somebody changed is refused',
  async t => {
    const id = await begin('folders', 'r1')
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

    // A journal that has several pieces, and grows.
    const long = Buffer.from(`${'x'.repeat(99)}\n`.repeat(7_000))
    for (const parts of [1, 2, 3]) {
      writeFileSync(join(folder, 'events.jsonl'), Buffer.concat(Array.from({ length: parts }, () => long)))
      await kept.store(async () => {})
      await restoreFolder(database.query, key, of, back)
      t.is(readFileSync(join(back, 'events.jsonl')).length, parts * long.length)
    }
    t.true(readFileSync(join(back, 'events.jsonl')).equals(readFileSync(join(folder, 'events.jsonl'))))
    writeFileSync(join(folder, 'events.jsonl'), '{"kind":"hidden"}\n')
    await kept.store(async () => {})
    await restoreFolder(database.query, key, of, back)
    t.is(readFileSync(join(back, 'events.jsonl'), 'utf8'), '{"kind":"hidden"}\n')

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
