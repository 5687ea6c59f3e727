// Operations on files beyond what ansible-core can be asked about: archives, what is kept beside files, how often hosts are asked, what somebody
// changed since, and folders that belong to somebody else.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { connect } from '../../../lib/connection/connect.ts'
import type { Connection } from '../../../lib/connection/connection.ts'
import { archive } from '../../../lib/operations/files/archive.ts'
import { fetch } from '../../../lib/operations/files/fetch.ts'
import { file } from '../../../lib/operations/files/file.ts'
import { unarchive } from '../../../lib/operations/files/unarchive.ts'
import { undoOperations } from '../../../lib/operations/operation.ts'
import { type StepContext, Unchanged } from '../../../lib/playbook/model.ts'
import { lineInFile, template } from '../../../lib/text-operations.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { makeTree, type Tree, treeOf } from '../../operations/_cases.ts'
import { stepContext } from '../../operations/_run-cases.ts'

const settings = { kind: 'local' } as never

/** A folder on this machine that holds this, and a step's context on it. */
async function stage(
  tree: Tree,
): Promise<{ place: string; context: StepContext; asked: () => number; connection: Connection }> {
  const folder = temporaryFolder('files')
  const place = join(folder, 'place')
  process.umask(0o022)
  makeTree(place, tree)
  const connection = await connect('h1', settings)
  let count = 0
  const counted: Connection = {
    ...connection,
    spawn: (...words) => {
      count++
      return connection.spawn(...words)
    },
  }
  const host = { name: 'h1', groups: [], vars: {}, connection: settings }
  const context = stepContext(counted, join(folder, 'run'), host)
  const asked = () => {
    const was = count
    count = 0
    return was
  }
  return { place, context, asked, connection }
}

test.serial('archive: packs what differs from what it holds, is read back, and unpacks to the same', async t => {
  const before: Tree = {
    'app/': {},
    'app/conf': { content: 'port=1\n', mode: '0640' },
    'app/log/': {},
    'app/log/x': { content: 'x' },
    'app/-n': { content: 'odd' },
    'there/': {},
    'app/l': { link: 'conf' },
  }
  const { place, context } = await stage(before)
  const options = {
    path: join(place, 'app'),
    dest: join(place, 'app.tgz'),
    excludePath: join(place, 'app/log'),
    mode: '0600',
  }
  const step = archive(options)
  t.deepEqual(await step.plan?.(context), [`pack ${place}/app into ${place}/app.tgz`])
  t.deepEqual(await step.run(context), { changed: [options.dest] })
  t.is(statSync(options.dest).mode & 0o777, 0o600)
  t.true((await step.run(context)) instanceof Unchanged)
  const opened = unarchive({ src: options.dest, dest: join(place, 'there'), remoteSrc: true })
  await opened.run({ ...context, step: 'open' })
  const {
    'app/log/': _log,
    'app/log/x': _x,
    ...packed
  } = Object.fromEntries(
    Object.entries(treeOf(join(place, 'app'))).map(([name, entry]) => [`app/${name}`, entry]),
  ) as Tree
  t.deepEqual(treeOf(join(place, 'there')), { 'app/': { mode: '0755' }, ...packed })
  await opened.rollback?.({ ...context, step: 'open' })
  t.deepEqual(readdirSync(join(place, 'there')), [])

  for (const change of [
    () => writeFileSync(join(place, 'app/conf'), 'port=2\n'),
    () => writeFileSync(join(place, 'app/new'), 'new'),
  ]) {
    change()
    t.false((await step.run(context)) instanceof Unchanged)
    t.true((await step.run(context)) instanceof Unchanged)
  }
  const emptied = archive({ ...options, excludePath: undefined, remove: true })
  const full = treeOf(join(place, 'app'))
  await emptied.run({ ...context, step: 'empty' })
  t.false(existsSync(join(place, 'app')))
  t.true((await emptied.run({ ...context, step: 'empty' })) instanceof Unchanged)
  await emptied.rollback?.({ ...context, step: 'empty' })
  t.deepEqual(treeOf(join(place, 'app')), full)
  await step.rollback?.(context)
  t.false(existsSync(options.dest))
  await t.throwsAsync(async () => archive({ ...options, path: [options.path, '/nowhere'] }).run(context), {
    message: /\/nowhere can't be packed/,
  })
  t.throws(() => archive({ path: place, dest: options.dest }), { message: /must not lie in what is packed/ })
})

test.serial('many edits of one file are one read and one write, and a second time one read', async t => {
  const { place, context, asked } = await stage({ f: { content: 'a\n' } })
  const path = join(place, 'f')
  const step = lineInFile(['b', 'c', 'd'].map(line => ({ path, line, backup: true })))
  await step.run(context)
  t.is(asked(), 2)
  t.is(readFileSync(path, 'utf8'), 'a\nb\nc\nd\n')
  t.true((await step.run(context)) instanceof Unchanged)
  t.is(asked(), 1)
  const backups = readdirSync(place).filter(name => /^f\.\d{4}-\d\d-\d\d@\d\d:\d\d:\d\d~$/.test(name))
  t.is(backups.length, 1)
  t.is(readFileSync(join(place, backups[0]!), 'utf8'), 'a\n')
  await file(['x', 'y', 'z'].map(name => ({ path: join(place, name), state: 'directory' }))).run(context)
  t.is(asked(), 2)
  await step.rollback?.(context)
  t.deepEqual(readdirSync(place).sort(), ['f', backups[0]])
  t.is(readFileSync(path, 'utf8'), 'a\n')
})

test.serial('within a step’s own run, and undone by undoOperations, the last first', async t => {
  const before: Tree = { f: { content: 'a\n', mode: '0640' } }
  const { place, context } = await stage(before)
  const path = join(place, 'f')
  t.deepEqual(await lineInFile(context, { path, line: 'b' }), { changed: [path] })
  t.deepEqual(await lineInFile(context, { path, line: 'b' }), { changed: [] })
  t.deepEqual(await file(context, { path, mode: 0o600 }), { changed: [path] })
  t.deepEqual(await file(context, { path, state: 'absent' }), { changed: [path] })
  await undoOperations(context)
  t.deepEqual(treeOf(place), { f: { content: 'a\n', mode: '0640' } })
  await undoOperations(context)
})

test.serial('what somebody changed since is not undone, and named', async t => {
  const { place, context } = await stage({ f: { content: 'a\n' } })
  const step = lineInFile({ path: join(place, 'f'), line: 'b' })
  await step.run(context)
  writeFileSync(join(place, 'f'), 'theirs\n')
  await t.throwsAsync(async () => step.rollback?.(context), { message: /f was changed since: it is left as it is/ })
  t.is(readFileSync(join(place, 'f'), 'utf8'), 'theirs\n')
  const folder = file({ path: join(place, 'd'), state: 'directory' })
  await folder.run({ ...context, step: 'd' })
  writeFileSync(join(place, 'd', 'theirs'), '')
  const told: string[] = []
  await folder.rollback?.({ ...context, step: 'd', log: line => void told.push(line) })
  t.deepEqual(told, [`${place}/d stays: something is in it`])
  t.deepEqual(readdirSync(join(place, 'd')), ['theirs'])
})

test.serial('fetch: below the name of the host, with the whole path; big files are not held in memory', async t => {
  const { place, context } = await stage({ 'etc/': {}, 'etc/big': { content: '' } })
  writeFileSync(join(place, 'etc', 'big'), Buffer.alloc(3_000_000, 'rekey'))
  const step = fetch({ src: join(place, 'etc', 'big'), dest: join(place, 'here') })
  const dest = join(place, 'here', 'h1', place, 'etc', 'big')
  const did = (await step.run(context)) as { files: { dest: string; changed: boolean }[] }
  t.deepEqual(
    did.files.map(({ dest, changed }) => [dest, changed]),
    [[dest, true]],
  )
  t.true(readFileSync(dest).equals(readFileSync(join(place, 'etc', 'big'))))
  t.is(statSync(dest).mode & 0o777, 0o600)
  t.true((await step.run(context)) instanceof Unchanged)
  await step.rollback?.(context)
  t.false(existsSync(dest))
})

test.serial(
  'template: consul-template’s language, by the name of its file; what only some may read is shown to nobody',
  async t => {
    const { place, context } = await stage({
      't.ctmpl': { content: '{{ .host }} {{ .port }}{{ range .list }} {{ . }}{{ end }}\n' },
    })
    const seen: { path: string; secret: boolean }[] = []
    const files = {
      ...context.files,
      announce: async (path: string, next: () => unknown) =>
        void seen.push({ path, ...((await next()) as { secret: boolean }) }),
    }
    const options = { src: join(place, 't.ctmpl'), vars: { port: 80, list: ['a', 'b'] } }
    const step = template([
      { ...options, dest: join(place, 'f') },
      { ...options, dest: join(place, 'g'), mode: '0640' },
    ])
    await step.run({ ...context, files: files as StepContext['files'] })
    t.is(readFileSync(join(place, 'f'), 'utf8'), 'h1 80 a b\n')
    t.deepEqual(
      seen.map(({ secret }) => secret),
      [false, true],
    )
    await t.throwsAsync(
      async () => template({ content: '{{ secret "a/b" }}', engine: 'consul-template', dest: '/x' }).run(context),
      {
        message: /no Vault is known/,
      },
    )
    t.throws(() => template({ src: 'x.ctmpl', dest: '/x', trimBlocks: true }), { message: /it goes with Jinja's/ })
  },
)

test.serial('names may hold line breaks, and say nothing of what is elsewhere', async t => {
  const { place, context } = await stage({ 'app/': {}, file: { content: 'theirs', mode: '0600' } })
  const { dev, ino } = statSync(join(place, 'file'))
  // A second name gives a line that begins with the rest of the first.
  const forged = `a\n8180 0 0 1 ${dev}:${ino} 0 2026-01-01 00:00:00 +0000|2026-01-01 00:00:00 +0000 ..`
  mkdirSync(join(place, 'app', forged))
  writeFileSync(join(place, 'app', forged, 'file'), '')
  writeFileSync(join(place, 'app', 'a\nb'), '', { mode: 0o600 })
  const step = file({ path: join(place, 'app'), recurse: true, mode: 'u=rwX,go=rX' })
  await step.run(context)
  t.is(statSync(join(place, 'app', 'a\nb')).mode & 0o777, 0o644)
  t.is(statSync(join(place, 'file')).mode & 0o777, 0o600)
  await step.rollback?.(context)
  t.is(statSync(join(place, 'app', 'a\nb')).mode & 0o777, 0o600)
})

const nobody = { uid: 65534, gid: 65534 }
const attack = `while :; do for d in "$1"/.rekey* "$1"/f "$1"/d; do [ -e "$d" ] && [ ! -L "$d" ] && mv -T "$d" "$1/.gone$((n += 1))" && ln -s "$2/file" "$d"; done; done`
const asRoot = process.getuid?.() === 0 ? test.serial : test.skip

asRoot('whoever owns a folder has root change nothing elsewhere', async t => {
  const { place, context } = await stage({
    'theirs/': {},
    'target/': {},
    'target/file': { content: 'as it was', mode: '0600' },
  })
  chmodSync(join(place, '..'), 0o755)
  const theirs = join(place, 'theirs')
  chownSync(theirs, nobody.uid, nobody.gid)
  symlinkSync(join(place, 'target'), join(theirs, 'way'))
  lchownSync(join(theirs, 'way'), nobody.uid, nobody.gid)
  await t.throwsAsync(async () => file({ path: join(theirs, 'way', 'x'), state: 'touch' }).run(context), {
    message: /a link that others may lay/,
  })
  const attacker = spawn('/bin/sh', ['-c', attack, 'sh', theirs, join(place, 'target')], { ...nobody, stdio: 'ignore' })
  try {
    for (let round = 0; round < 5; round++) {
      for (const step of [
        file({ path: join(theirs, 'f'), state: 'touch', mode: '0644', owner: 'nobody' }),
        file({ path: join(theirs, 'f'), mode: '0666', follow: false }),
        file({ path: join(theirs, 'd'), state: 'directory', mode: '0777', owner: 'nobody' }),
        lineInFile({ path: join(theirs, 'g'), line: 'x', create: true }),
      ])
        await Promise.resolve(step.run(context)).catch(() => {})
    }
  } finally {
    attacker.kill('SIGKILL')
    await once(attacker, 'close')
  }
  t.deepEqual(treeOf(join(place, 'target')), { file: { content: 'as it was', mode: '0600' } })
  mkdirSync(join(place, 'end'))
})
