// What a worker has to write down is written as soon as the database answers, and what does not go by ends the cluster.
import test from 'ava'
import { RekeyError } from '../../../lib/errors.ts'
import { isAway } from '../../../lib/fleet/store/database.ts'
import { Lost, storing } from '../../../lib/fleet/work/storing.ts'

const withCode = (code: string, message = 'x') => Object.assign(new Error(message), { code })
const none = { every: 1, most: 0 }

for (const [what, error, away] of [
  ['nobody listens', withCode('ECONNREFUSED'), true],
  ['on any of its addresses', Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' }), true],
  ['the connection is cut', new Error('Connection terminated unexpectedly'), true],
  ['it is shut down', withCode('57P01'), true],
  ['it starts', withCode('57P03'), true],
  ['it only reads since it was followed by another one', withCode('25006'), true],
  ['two were in the way of each other', withCode('40P01'), true],
  ['all connections of ours are taken', new Error('timeout exceeded when trying to connect'), true],
  ['a right is missing', withCode('42501', 'permission denied for table piece'), false],
  ['its disk is full', withCode('53100'), false],
  ['a file here can not be read', withCode('EACCES'), false],
  ['the disk here is full', withCode('ENOSPC'), false],
  ['something else', new TypeError('x is not a function'), false],
  ['no error at all', 'Connection terminated', false],
] as const)
  test(`whether the database is away: ${what}`, t => t.is(isAway(error), away))

test('a database that is away is asked again, without a word, for as long as it takes', async t => {
  const said: string[] = []
  let tries = 0
  const store = storing(new AbortController(), text => said.push(text), none)
  const work = async () => {
    if (++tries < 5) throw withCode('ECONNREFUSED')
    return 'stored'
  }
  t.is(await store(work), 'stored')
  t.deepEqual(said, [])
})

test('what does not go by is told once, and thrown after its time', async t => {
  const said: string[] = []
  let tries = 0
  const store = storing(new AbortController(), text => said.push(text), { every: 1, most: 20 })
  const work = async () => {
    tries++
    throw withCode('EACCES', 'no right to read')
  }
  await t.throwsAsync(store(work), { code: 'EACCES' })
  t.true(tries > 1)
  t.deepEqual(said, ['no right to read: it is tried again'])
})

test('what is damaged is so the next time, too', async t => {
  let tries = 0
  const store = storing(new AbortController(), () => t.fail(), none)
  const work = async () => {
    tries++
    throw new RekeyError('it was not written by a worker', { code: 'fleet.folder' })
  }
  await t.throwsAsync(store(work), { code: 'fleet.folder' })
  t.is(tries, 1)
})

test('a cluster that is lost is left', async t => {
  const lost = new AbortController()
  const store = storing(lost, () => t.fail(), none)
  t.is(await store(() => Promise.reject(new Lost())), undefined)
  t.true(lost.signal.aborted)
  t.is(await store(async () => t.fail()), undefined)
})
