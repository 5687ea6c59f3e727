// etcd's data put in place and back, wherever it was killed meanwhile: nothing of it is lost, and it may be done twice.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { asideIn, putDataBack, putDataInPlace } from '../../../lib/kubernetes/backups/etcd-data.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { localSession } from '../_local.ts'

const session = await localSession()

/** A folder of etcd's data, with data of now and data from a snapshot beside it. */
function scene({ isEmpty = false, called = 'data' } = {}) {
  const data = join(temporaryFolder('etcd-data'), called)
  const aside = asideIn(data, 'r1')
  const member = (folder: string, text: string) => {
    mkdirSync(join(folder, 'member'), { recursive: true })
    writeFileSync(join(folder, 'member', 'db'), text)
  }
  if (!isEmpty) member(data, 'now')
  member(join(aside, 'new'), 'then')
  const held = () => (existsSync(join(data, 'member')) ? readFileSync(join(data, 'member', 'db'), 'utf8') : undefined)
  return { data, aside, held, member }
}

test('the data of the snapshot takes its place, and that of before comes back', async t => {
  const { data, aside, held } = scene()
  await putDataInPlace(session, 'r1', data)
  t.is(held(), 'then')
  await putDataInPlace(session, 'r1', data)
  t.is(held(), 'then')
  t.is(readFileSync(join(aside, 'before', 'member', 'db'), 'utf8'), 'now')
  await putDataBack(session, 'r1', data)
  t.is(held(), 'now')
  await putDataBack(session, 'r1', data)
  t.is(held(), 'now')
})

test('where there was nothing, there is nothing again', async t => {
  const { data, held } = scene({ isEmpty: true })
  await putDataInPlace(session, 'r1', data)
  t.is(held(), 'then')
  await putDataBack(session, 'r1', data)
  t.is(held(), undefined)
})

test('killed after the data was moved aside, it goes on, or back', async t => {
  for (const [way, expected] of [
    [putDataInPlace, 'then'],
    [putDataBack, 'now'],
  ] as const) {
    const { data, aside, held } = scene()
    mkdirSync(join(aside, 'moving'))
    renameSync(join(data, 'member'), join(aside, 'moving', 'member'))
    await way(session, 'r1', data)
    t.is(held(), expected)
  }
})

test('killed before the data was moved, it goes on, or back', async t => {
  for (const [way, expected] of [
    [putDataInPlace, 'then'],
    [putDataBack, 'now'],
  ] as const) {
    const { data, aside, held } = scene()
    mkdirSync(join(aside, 'moving'))
    await way(session, 'r1', data)
    t.is(held(), expected)
  }
})

test('an etcd that somebody started in between is kept, too, and taken for nothing that was there before', async t => {
  const { data, aside, held, member } = scene()
  mkdirSync(join(aside, 'before'))
  renameSync(join(data, 'member'), join(aside, 'before', 'member'))
  member(data, 'empty')
  await putDataInPlace(session, 'r1', data)
  t.is(held(), 'then')
  t.true(readdirSync(aside).some(name => name.startsWith('between-')))
  await putDataBack(session, 'r1', data)
  t.is(held(), 'now')
})

test('a folder of data that is called as a command is, is no command', async t => {
  const { data, aside, held } = scene({ called: 'etcd"$(touch done)"' })
  await putDataInPlace(session, 'r1', data)
  mkdirSync(join(aside, 'restored'))
  await putDataBack(session, 'r1', data)
  t.is(held(), 'now')
  t.true(readdirSync(aside).some(name => name.startsWith('between-')))
  t.false(existsSync(join(data, 'done')))
})

test('before anything was put in place, going back leaves the data alone', async t => {
  const { data, aside, held } = scene()
  await putDataBack(session, 'r1', data)
  t.is(held(), 'now')
  t.false(existsSync(aside))
})

test('nothing that was made is one clear error, and the data stays', async t => {
  const { data, held } = scene()
  await t.throwsAsync(putDataInPlace(session, 'r2', data), { message: /rekey-r2\/new\/member is not there/ })
  t.is(held(), 'now')
})

test('data that an etcd has open is not moved, neither there nor back', async t => {
  const { data, held } = scene()
  const database = join(data, 'member', 'snap', 'db')
  mkdirSync(join(data, 'member', 'snap'))
  writeFileSync(database, '')
  const open = async () => {
    // What bbolt does: it holds a lock of the whole file.
    const etcd = spawn('flock', [database, 'sh', '-c', 'echo open; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => etcd.stdin.end())
    await once(etcd.stdout, 'data')
    return async () => {
      etcd.stdin.end()
      await once(etcd, 'exit')
    }
  }
  const close = await open()
  await t.throwsAsync(putDataInPlace(session, 'r1', data), { message: /an etcd has this data open/ })
  t.is(held(), 'now')
  await close()
  await putDataInPlace(session, 'r1', data)
  t.is(held(), 'then')
  mkdirSync(join(data, 'member', 'snap'))
  writeFileSync(database, '')
  const closeAgain = await open()
  await t.throwsAsync(putDataBack(session, 'r1', data), { message: /an etcd has this data open/ })
  t.is(held(), 'then')
  await closeAgain()
  await putDataBack(session, 'r1', data)
  t.is(held(), 'now')
  // The data of before is in use again by then.
  const closeAtLast = await open()
  await t.notThrowsAsync(putDataBack(session, 'r1', data))
  await closeAtLast()
})

test('an etcd that somebody started where the data was moved aside only is kept, and taken for nothing that was there before', async t => {
  const { data, aside, held, member } = scene()
  mkdirSync(join(aside, 'moving'))
  renameSync(join(data, 'member'), join(aside, 'moving', 'member'))
  member(data, 'empty')
  await putDataInPlace(session, 'r1', data)
  t.is(held(), 'then')
  await putDataBack(session, 'r1', data)
  t.is(held(), 'now')
})
