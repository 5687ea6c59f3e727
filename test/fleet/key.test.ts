// The key of a fleet: who may have it, and what it opens.
import { chmodSync, chownSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { openKey } from '../../lib/fleet/store/key.ts'
import { temporaryFolder } from '../_temporary.ts'

const place = (name: string) => join(temporaryFolder('key'), name)

test('it is made for its owner alone, and read again', async t => {
  const path = place('key.txt')
  const made = await openKey(path, true)
  t.is(statSync(path).mode & 0o777, 0o600)
  const again = await openKey(path, true)
  t.is(again.recipient, made.recipient)
  t.deepEqual(await again.open(['a'], await made.seal(['a'], Buffer.from('text'))), Buffer.from('text'))
})

test('one that others may read or write is refused, and so is what is no file', async t => {
  const path = place('key.txt')
  await openKey(path, true)
  symlinkSync(path, `${path}.link`)
  await t.throwsAsync(openKey(`${path}.link`, false), { message: /others may read or write it/ })
  for (const mode of [0o640, 0o620, 0o604, 0o602]) {
    chmodSync(path, mode)
    await t.throwsAsync(openKey(path, false), { message: /others may read or write it/ })
  }
  if (process.getuid?.() === 0) {
    const theirs = place('theirs')
    await openKey(theirs, true)
    chownSync(theirs, 65_534, 65_534)
    await t.throwsAsync(openKey(theirs, false), { message: /others may read or write it/ })
  }
  await t.throwsAsync(openKey(place('none'), false), { message: /can't be read \(ENOENT\)/ })
  const empty = place('empty')
  writeFileSync(empty, 'AGE\n', { mode: 0o600 })
  await t.throwsAsync(openKey(empty, false), { message: /holds no age identity/ })
})

test("what is another key's, of another place or changed is not opened", async t => {
  const [own, other] = [await openKey(place('own'), true), await openKey(place('other'), true)]
  const sealed = await own.seal(['fleet', 'c1'], Buffer.from('text'))
  await t.throwsAsync(other.open(['fleet', 'c1'], sealed), { message: /can't be read with/ })
  await t.throwsAsync(own.open(['fleet', 'c2'], sealed), { message: /not written by a worker of the fleet for this/ })
  const changed = Buffer.from(sealed)
  changed[changed.length - 1]! ^= 1
  await t.throwsAsync(own.open(['fleet', 'c1'], changed), { message: /can't be read with/ })
})
