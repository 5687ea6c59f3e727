// Who is told what happens in a fleet: each event once, by whichever worker takes it, and in time also those who could not be reached at first.
import anyTest, { type TestFn } from 'ava'
import { startDelivery } from '../../../lib/fleet/notify/deliver.ts'
import { addEvent, addFleet, eventsOf, requireFleet } from '../../../lib/fleet/store/fleets.ts'
import { untoldOf } from '../../../lib/fleet/store/notices.ts'
import { database, useDatabase } from './_database.ts'
import { soon } from './_simulated.ts'

const { real } = useDatabase(anyTest as TestFn, 'who is told what happens in a fleet')

/** A fleet of which one, two or more are told of clusters that failed. */
async function begin(name: string, titles: readonly string[]) {
  const receivers = titles.map(title => ({ title, kinds: ['failed' as const] }))
  const plan = {
    maxParallel: 1,
    heartbeat: 60,
    gatesEvery: 600_000,
    whenUnknown: 'resume' as const,
    waves: [],
    receivers,
  }
  const of = { name, playbook: 'x', playbookHash: 'x', hash: 'x', rekey: 'x', recipient: 'x', operator: 'me', plan }
  const id = await addFleet(database.query, of)
  return { id, fleet: await requireFleet(database.query, name) }
}

const fail = (id: string, cluster: string) =>
  addEvent(database.query, id, { kind: 'failed', cluster, text: `${cluster}: failed` })

real('two workers tell each event once, and only those of the kinds that were asked for', async t => {
  const { id, fleet } = await begin('once', ['one', 'other'])
  const all = Array.from({ length: 30 }, (_, at) => `c${at}`)
  for (const cluster of all) await fail(id, cluster)
  await addEvent(database.query, id, { kind: 'started', text: 'c1: begun' })
  const got: [string[], string[]] = [[], []]
  const ids = new Set<string>()
  const senders = got.map((list, at) => ({
    title: `${at}`,
    send: async ({ id, event }: { id: string; event: { text: string } }) => {
      list.push(event.text)
      ids.add(id)
    },
  }))
  const workers = [1, 2, 3].map(() => startDelivery({ database, fleet }, senders))
  await Promise.all(workers.map(one => one.end('patient')))
  const expected = all.map(cluster => `${cluster}: failed`).sort()
  for (const list of got) t.deepEqual(list.toSorted(), expected)
  t.is(ids.size, 30, 'both know an event by the same id')
  t.deepEqual(await untoldOf(database.query, id), [])
})

real('whoever can not be reached is told later, holds up nobody, and is spoken of once', async t => {
  const { id, fleet } = await begin('later', ['dead', 'living'])
  const got: string[][] = [[], []]
  let isDead = true
  let tries = 0
  const senders = got.map((list, at) => ({
    title: `${at}`,
    send: async ({ event }: { event: { text: string } }) => {
      if (at === 0 && isDead) {
        tries++
        throw new Error('nobody there')
      }
      list.push(event.text)
    },
  }))
  for (const cluster of ['a', 'b', 'c']) await fail(id, cluster)
  const worker = startDelivery({ database, fleet }, senders)
  t.true(await soon(() => got[1]!.length === 3 && tries > 0))
  const dueNow = () => database.query('UPDATE rekey_fleet.notice SET due = now() WHERE fleet = $1', [id])
  const before = tries
  await dueNow()
  t.true(await soon(() => tries > before))
  t.deepEqual(await untoldOf(database.query, id), [{ title: 'dead', why: 'nobody there', left: 3 }])
  isDead = false
  await dueNow()
  t.true(await soon(() => got[0]!.length === 3), got[0]!.join())
  await worker.end('once')
  t.deepEqual(got[0]!.toSorted(), ['a: failed', 'b: failed', 'c: failed'])
  t.deepEqual(
    (await eventsOf(database.query, id)).flatMap(({ kind, text }) => (kind === 'notify' ? [text] : [])),
    ["dead can't be told what happens: nobody there; it is tried again for a day", 'dead is told again what happens'],
  )
  t.deepEqual(await untoldOf(database.query, id), [])
})

real('what is older than a day is not told any more, and what a killed worker had is told by another one', async t => {
  const { id, fleet } = await begin('old', ['one'])
  const got: string[] = []
  let isDead = true
  const sender = {
    title: 'one',
    send: async ({ event }: { event: { text: string } }) => {
      if (isDead) throw new Error('nobody there')
      got.push(event.text)
    },
  }
  await fail(id, 'old')
  await database.query("UPDATE rekey_fleet.event SET at = now() - interval '25 hours' WHERE fleet = $1", [id])
  await startDelivery({ database, fleet }, [sender]).end('once')
  isDead = false
  await fail(id, 'taken')
  // As a worker leaves it that claimed it and was killed, once its time is over.
  await database.query('UPDATE rekey_fleet.notice SET tries = 1 WHERE fleet = $1 AND ended IS NULL', [id])
  await startDelivery({ database, fleet }, [sender]).end('once')
  t.deepEqual(got, ['taken: failed'])
})
