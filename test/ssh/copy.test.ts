// Copying files to a host: what is there already is left alone, what is sent arrives whole or not at all.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { connect } from '../../lib/connection/connect.ts'
import type { Connection } from '../../lib/connection/connection.ts'
import { secret } from '../../lib/connection/shell.ts'
import { differingFiles } from '../../lib/operations/copy.ts'
import { copy } from '../../lib/operations/files/copy.ts'
import type { StepContext } from '../../lib/playbook/model.ts'
import { temporaryFolder } from '../_temporary.ts'
import { stepContext } from '../operations/_run-cases.ts'
import { sshdMissing, startSshd, type TestSshd } from './sshd.ts'

const missing = sshdMissing()
const test = anyTest as TestFn<{ sshd: TestSshd; connection: Connection; session: StepContext; folder: string }>
const real = missing ? test.skip : test.serial

if (missing) test.skip(`copying is not tested: ${missing}`, () => {})

test.beforeEach(async t => {
  if (missing) return
  const sshd = await startSshd()
  const connection = await connect('h1', { ...sshd.settings, connectTimeout: 60 })
  const session = stepContext(connection, temporaryFolder('copy-run'), sshd.settings)
  Object.assign(t.context, { sshd, connection, session, folder: mkdtempSync(join(tmpdir(), 'rekey-copy-')) })
})
test.afterEach.always(async t => {
  t.context.connection?.close()
  await t.context.sshd?.stop()
  if (t.context.folder) rmSync(t.context.folder, { recursive: true, force: true })
})

/** All that is below a folder, hidden files too. */
const entries = (folder: string) => readdirSync(folder, { recursive: true }).map(String).sort()
const stamp = (path: string) => `${statSync(path).ino} ${statSync(path).mtimeMs}`

real(
  'files of every kind arrive: big, empty, odd names, long names, new folders; nothing else is left behind',
  async t => {
    const { session, folder } = t.context
    const big = join(folder, 'big-source')
    writeFileSync(big, Buffer.alloc(3_000_000, 'rekey'))
    const there = join(folder, 'there')
    const long = join(there, 'a'.repeat(90), 'b'.repeat(120))
    const odd = join(there, `it's "odd" \\ -n $HOME ünï`)
    const { changed, bytes } = await copy(session, [
      { path: join(there, 'deep', 'er', 'big'), source: big },
      { path: join(there, 'empty'), content: '' },
      { path: odd, content: 'odd', mode: 0o755 },
      { path: long, content: Buffer.from([0, 255, 10]) },
      { path: join(there, 'key'), content: secret('a private thing') },
    ])
    t.is(changed.length, 5)
    t.is(bytes, 3_000_000 + 3 + 3 + 15)
    t.deepEqual(readFileSync(join(there, 'deep', 'er', 'big')), readFileSync(big))
    t.is(readFileSync(join(there, 'empty'), 'utf8'), '')
    t.is(readFileSync(odd, 'utf8'), 'odd')
    t.deepEqual([...readFileSync(long)], [0, 255, 10])
    t.is(statSync(odd).mode & 0o777, 0o755)
    t.is(statSync(join(there, 'empty')).mode & 0o777, 0o644)
    t.is(statSync(join(there, 'key')).mode & 0o777, 0o600)
    t.is(statSync(join(there, 'deep')).mode & 0o777, 0o755)
    t.false(entries(folder).some(name => name.includes('.rekey')))
    t.is(entries(there).length, 8)
  },
)

real('what is as it shall be is left alone; content, mode and owner are all looked at', async t => {
  const { session, folder } = t.context
  const owner = userInfo().username
  const files = ['a', 'b', 'c\\d'].map(name => ({
    path: join(folder, name),
    content: `this is ${name}`,
    mode: '0644',
    owner,
  }))
  await copy(session, files)
  const before = files.map(({ path }) => stamp(path))
  t.deepEqual(await copy(session, files), { changed: [], bytes: 0 })
  t.deepEqual(
    files.map(({ path }) => stamp(path)),
    before,
  )
  writeFileSync(join(folder, 'a'), 'another one')
  chmodSync(join(folder, 'b'), 0o600)
  t.deepEqual(await differingFiles(session, files), [join(folder, 'a'), join(folder, 'b')])
  t.is(readFileSync(join(folder, 'a'), 'utf8'), 'another one')
  t.deepEqual((await copy(session, files)).changed, [join(folder, 'a'), join(folder, 'b')])
  t.is(stamp(join(folder, 'c\\d')), before[2]!)
  t.is(readFileSync(join(folder, 'a'), 'utf8'), 'this is a')
  t.is(statSync(join(folder, 'b')).mode & 0o777, 0o644)
})

real('many files go in one stream', async t => {
  const { session, folder } = t.context
  const files = Array.from({ length: 300 }, (_, index) => ({
    path: join(folder, `${index % 3}`, `f${index}`),
    content: `content of ${index}`,
  }))
  t.is((await copy(session, files)).changed.length, 300)
  for (const { path, content } of files) t.is(readFileSync(path, 'utf8'), content)
  t.deepEqual((await copy(session, files)).changed, [])
  t.is(entries(folder).length, 303)
})

real('a source that changes while it is sent is found out: every file stays as it was', async t => {
  const { session, folder } = t.context
  const source = join(folder, 'source')
  const size = 40_000_000
  writeFileSync(source, Buffer.alloc(size, 'x'))
  const [kept, copied] = [join(folder, 'kept'), join(folder, 'copied')]
  writeFileSync(kept, 'as it was')
  writeFileSync(copied, Buffer.alloc(size, 'y'))
  const files = [
    { path: kept, content: 'as it shall be' },
    { path: copied, source, keep: false },
  ]
  // The hash is known when it is compared; then, behind its back, the file becomes another one of the same size.
  const announce: typeof session.files.announce = async (...words) => {
    if (words[0] === kept) {
      const file = openSync(source, 'r+')
      writeSync(file, 'another')
      closeSync(file)
    }
    await session.files.announce(...words)
  }
  await t.throwsAsync(copy({ ...session, files: { ...session.files, announce } }, files), {
    message: /h1: files could not be copied, and are as they were: not everything arrived whole/,
  })
  t.is(readFileSync(kept, 'utf8'), 'as it was')
  t.true(readFileSync(copied).equals(Buffer.alloc(size, 'y')))
  t.deepEqual(entries(folder), ['copied', 'kept', 'source'])
})

real('a source that was changed is copied anew, whatever age and size it says it has', async t => {
  const { session, folder } = t.context
  const [source, path] = [join(folder, 'source'), join(folder, 'copied')]
  const age = new Date('2026-01-01')
  for (const content of ['first', 'other']) {
    writeFileSync(source, content)
    utimesSync(source, age, age)
    t.deepEqual((await copy(session, [{ path, source }])).changed, [path])
    t.is(readFileSync(path, 'utf8'), content)
  }
})

real(
  'a folder in the place of a file, a missing source and a relative path are refused before anything is sent',
  async t => {
    const { session, folder } = t.context
    mkdirSync(join(folder, 'taken'))
    const good = { path: join(folder, 'good'), content: 'good' }
    await t.throwsAsync(copy(session, [good, { path: join(folder, 'taken'), content: 'x' }]), {
      message: /taken is not a file there/,
    })
    await t.throwsAsync(copy(session, [good, { path: join(folder, 'x'), source: join(folder, 'absent') }]), {
      message: /absent can't be read/,
    })
    await t.throwsAsync(copy(session, [good, { path: 'relative', content: 'x' }]), { message: /absolute/ })
    await t.throwsAsync(copy(session, [good, { path: join(folder, 'x') }]), { message: /content or its source/ })
    t.false(existsSync(good.path))
  },
)

real('a link in the place of a file becomes a file', async t => {
  const { session, folder } = t.context
  writeFileSync(join(folder, 'target'), 'the target')
  symlinkSync(join(folder, 'target'), join(folder, 'link'))
  await copy(session, [{ path: join(folder, 'link'), content: 'a file' }])
  t.is(readFileSync(join(folder, 'link'), 'utf8'), 'a file')
  t.is(readFileSync(join(folder, 'target'), 'utf8'), 'the target')
})

real('files for several file systems arrive as those for one, and nothing else is left behind', async t => {
  const { session, folder } = t.context
  const elsewhere = mkdtempSync('/dev/shm/rekey-copy-')
  try {
    const files = [folder, join(folder, 'new', 'one'), elsewhere, join(elsewhere, 'new')].flatMap(each =>
      ['a', '.b', '- c'].map(name => ({ path: join(each, name), content: `${name} of ${each}`, mode: 0o640 })),
    )
    t.is((await copy(session, files)).changed.length, 12)
    for (const { path, content } of files) {
      t.is(readFileSync(path, 'utf8'), content)
      t.is(statSync(path).mode & 0o777, 0o640)
    }
    t.deepEqual(entries(folder), ['- c', '.b', 'a', 'new', 'new/one', 'new/one/- c', 'new/one/.b', 'new/one/a'])
    t.deepEqual(entries(elsewhere), ['- c', '.b', 'a', 'new', 'new/- c', 'new/.b', 'new/a'])
    t.is(statSync(join(elsewhere, 'new')).mode & 0o777, 0o755)
  } finally {
    rmSync(elsewhere, { recursive: true, force: true })
  }
})

const nobody = { uid: 65534, gid: 65534 }
/** What somebody else does all the time in a folder of theirs: what root makes there is renamed, and a link put in its place. */
const attack = `while :; do for d in "$1"/.rekey*; do [ -d "$d" ] && [ ! -L "$d" ] && mv -T "$d" "$1/.gone$((n += 1))" && ln -s "$2" "$d"; done; done`
const asRoot = process.getuid?.() === 0 ? real : test.skip

asRoot(
  'whoever owns a folder has root write nowhere else: not by a link on the way, and not by one that comes later',
  async t => {
    const { session, folder } = t.context
    chmodSync(folder, 0o755)
    const [theirs, target] = [join(folder, 'theirs'), join(folder, 'target')]
    for (const path of [theirs, target]) mkdirSync(path)
    chownSync(theirs, nobody.uid, nobody.gid)
    symlinkSync(target, join(theirs, 'way'))
    lchownSync(join(theirs, 'way'), nobody.uid, nobody.gid)
    writeFileSync(join(target, 'file'), 'as it was')
    const contents = Array.from({ length: 20 }, (_, index) => ({
      name: `f${index}`,
      content: Buffer.alloc(200_000, 'x'),
    }))
    const ways: Record<string, (into: string) => Promise<unknown>> = {
      write: async into => {
        for (const { name, content } of contents.slice(0, 3)) await session.files.write(join(into, name), content)
      },
      copy: into =>
        copy(
          session,
          contents.map(({ name, content }) => ({ path: join(into, name), content })),
        ),
      'copy of new folders': into => copy(session, [{ path: join(into, 'new', 'file'), content: 'new' }]),
    }
    for (const [what, way] of Object.entries(ways)) {
      await t.throwsAsync(
        way(join(theirs, 'way')),
        { message: /a link that others may lay, and is not followed/ },
        what,
      )
      const attacker = spawn('/bin/sh', ['-c', attack, 'sh', theirs, target], { ...nobody, stdio: 'ignore' })
      try {
        for (let round = 0; round < 3; round++) await way(theirs).catch(() => {})
      } finally {
        attacker.kill('SIGKILL')
        await once(attacker, 'close')
      }
      t.deepEqual(entries(target), ['file'], what)
      t.is(readFileSync(join(target, 'file'), 'utf8'), 'as it was')
      t.deepEqual([statSync(target).uid, statSync(target).mode & 0o777], [0, 0o755])
    }
    // Left in peace, they work there.
    for (const name of readdirSync(theirs)) rmSync(join(theirs, name), { recursive: true })
    for (const way of Object.values(ways)) await way(theirs)
    t.deepEqual(entries(theirs), [...contents.map(({ name }) => name), 'new', 'new/file'].sort())
  },
)
