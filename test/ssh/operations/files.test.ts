// Operations on files beyond what ansible-core can be asked about: archives, what is kept beside files, how often hosts are asked, what somebody
// changed since, and folders that belong to somebody else.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { connect } from '../../../lib/connection/connect.ts'
import type { Connection } from '../../../lib/connection/connection.ts'
import { archive } from '../../../lib/operations/files/archive.ts'
import { copy } from '../../../lib/operations/files/copy.ts'
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
  await t.throwsAsync(async () => archive({ ...options, path: [options.path, join(place, 'nowhere')] }).run(context), {
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
  const folders = file(['x', 'y', 'z'].map(name => ({ path: join(place, name), state: 'directory' })))
  await folders.run({ ...context, step: 'folders' })
  t.is(asked(), 2)
  await folders.rollback?.({ ...context, step: 'folders' })
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

test.serial('a rollback whose notes are missing, broken or made up undoes nothing, and says why', async t => {
  const { place, context } = await stage({ f: { content: 'a\n' } })
  const sprung = join(place, 'sprung')
  const step = lineInFile({ path: join(place, 'f'), line: 'b' })
  await step.run(context)
  const notes = join(context.folder, 'before', '=h1', '=the-step')
  const [note = ''] = readdirSync(notes)
  const text = readFileSync(join(notes, note), 'utf8')
  const isRefused = async (code: string, message: RegExp) => {
    const error = await t.throwsAsync(async () => step.rollback?.(context), { code, message } as never)
    t.regex(String((error as Error & { hint?: string }).hint), /\w/)
    t.is(readFileSync(join(place, 'f'), 'utf8'), 'a\nb\n')
  }
  const own = { kind: 'attributes', path: join(place, 'f'), bits: 0o600, uid: 0, gid: 0 }
  const file = { operation: 'lineInFile', kept: [own] }
  for (const [made, message] of [
    [text.slice(0, 20), /000001\.json can't be read/],
    [JSON.stringify({ operation: 'file', kept: [own] }), /is of 'file', and the step of 'lineInFile'/],
    [
      JSON.stringify({ ...file, kept: [{ ...own, uid: `$(touch ${sprung})0` }] }),
      /no note of 'lineInFile': kept\.0\.uid/,
    ],
    [JSON.stringify({ ...file, kept: [{ ...own, path: 'f' }] }), /kept\.0\.path: no absolute path/],
    [JSON.stringify({ ...file, kept: [{ ...own, kind: 'content' }] }), /no note of/],
  ] as const) {
    writeFileSync(join(notes, note), made)
    await isRefused('operation.note', message)
  }
  t.false(existsSync(sprung))
  rmSync(join(context.folder, 'before'), { recursive: true })
  await isRefused('operation.notes-missing', /000001\.json is missing/)
  const index = join(context.folder, 'before.jsonl')
  renameSync(index, `${index}.gone`)
  await t.throwsAsync(async () => step.rollback?.({ ...context, registered: () => ({}) as never }), {
    message: /before\.jsonl is missing/,
  })
  renameSync(`${index}.gone`, index)
  mkdirSync(notes, { recursive: true })
  writeFileSync(join(notes, note), text)
  // One that was being written when rekey was killed.
  writeFileSync(join(notes, '.000002.json'), '{')
  await step.rollback?.(context)
  t.is(readFileSync(join(place, 'f'), 'utf8'), 'a\n')
  await step.rollback?.(context)
  t.is(readFileSync(join(notes, 'undone', note), 'utf8'), text)
  const brought = fetch({ src: join(place, 'f'), dest: sprung, flat: true })
  await brought.run({ ...context, step: 'fetch' })
  writeFileSync(sprung, 'theirs')
  const bits = { path: sprung, folders: [], before: { content: '', bits: 0o755 } }
  writeFileSync(join(notes, '..', '=fetch', note), JSON.stringify({ operation: 'fetch', kept: [bits] }))
  await t.throwsAsync(async () => brought.rollback?.({ ...context, step: 'fetch' }), { message: /kept\.0\.sha256/ })
  const here = [{ ...bits, path: join(place, 'f'), sha256: '0'.repeat(64) }]
  writeFileSync(join(notes, '..', '=fetch', note), JSON.stringify({ operation: 'fetch', kept: here }))
  await t.throwsAsync(async () => brought.rollback?.({ ...context, step: 'fetch' }), {
    message: /none of what the step/,
  })
})

test.serial(
  'what was removed comes back whole, and where somebody made something in its place, that stays',
  async t => {
    const files = { 'd/one': { content: '1' }, 'd/two': { content: '2' }, f: { content: 'a' } }
    const { place, context } = await stage({ 'd/': {}, ...files })
    const before = treeOf(place)
    const folder = file({ path: join(place, 'd'), state: 'absent' })
    // Cut off in the middle, gone on with, and what was left of it is there again.
    await folder.run(context)
    mkdirSync(join(place, 'd'))
    writeFileSync(join(place, 'd', 'two'), '2')
    await folder.run(context)
    await folder.rollback?.(context)
    t.deepEqual(treeOf(place), before)
    const gone = file({ path: join(place, 'f'), state: 'absent' })
    await gone.run({ ...context, step: 'f' })
    writeFileSync(join(place, 'f'), 'theirs')
    for (let round = 0; round < 2; round++)
      await t.throwsAsync(async () => gone.rollback?.({ ...context, step: 'f' }), { message: /f was changed since/ })
    t.is(readFileSync(join(place, 'f'), 'utf8'), 'theirs')
    rmSync(join(place, 'f'))
    await gone.rollback?.({ ...context, step: 'f' })
    t.deepEqual(treeOf(place), before)
  },
)

test.serial('a list whose items are about each other is done as if each were a step of its own', async t => {
  const { place, context } = await stage({})
  const at = (name: string) => join(place, name)
  const step = file([
    { path: at('n'), state: 'directory', mode: 0o700 },
    { path: at('n/m'), state: 'directory' },
    { path: at('n/f'), state: 'touch' },
    { path: at('x/a'), state: 'directory' },
    { path: at('x/b'), state: 'directory' },
    { path: at('l'), src: at('n/f'), state: 'link' },
    { path: at('l'), state: 'absent' },
  ])
  const planned = await step.plan?.(context)
  t.is(new Set(planned as string[]).size, (planned as string[]).length)
  await step.run(context)
  t.deepEqual(Object.keys(treeOf(place)).sort(), ['n/', 'n/f', 'n/m/', 'x/', 'x/a/', 'x/b/'])
  t.is(statSync(at('n')).mode & 0o777, 0o700)
  await step.rollback?.(context)
  t.deepEqual(readdirSync(place), [])
})

test.serial('names in an archive lead nowhere else, and what somebody changed of it since stays', async t => {
  const { place, context } = await stage({
    'in/': {},
    'in/conf': { content: 'new' },
    'in/link': { link: 'conf' },
    'in/rep': { content: 'new' },
    'in/same': { content: 'new' },
    'outer/': {},
    'outer/evil': { content: 'theirs', mode: '0600' },
    'to/': {},
    'to/rep': { content: 'old' },
    'to/same': { content: 'old' },
  })
  const tar = (...words: string[]) => execFileSync('tar', words, { cwd: place })
  const [src, dest] = [join(place, 'a.tar'), join(place, 'to')]
  const step = unarchive({ src, dest, mode: 0o777 })
  for (const [name, message] of [
    ['a\n../outer/evil', /a name in it has a line break/],
    ['../outer/evil', /holds '\.\.\/outer\/evil', which leads out of/],
  ] as const) {
    tar('-cPf', src, `--transform=s|.*|${name.replace('\n', '\\n')}|`, 'in/conf')
    await t.throwsAsync(async () => step.run(context), { message })
  }
  symlinkSync(join(place, 'outer'), join(place, 'way'))
  tar('-cf', src, 'way')
  tar('-rf', src, '--transform=s|.*|way/evil|', 'in/conf')
  await t.throwsAsync(async () => step.run(context), { message: /holds 'way\/evil', which leads out of/ })
  t.is(statSync(join(place, 'outer', 'evil')).mode & 0o777, 0o600)
  t.throws(() => unarchive({ src, dest, extraOpts: ['-P'] }), { message: /outside of dest/ })
  tar('-cf', src, '-C', 'in', '.')
  const unpacked = unarchive({ src, dest })
  await unpacked.run(context)
  t.is(readFileSync(join(dest, 'same'), 'utf8'), 'new')
  for (const name of ['conf', 'rep']) writeFileSync(join(dest, name), 'theirs')
  await t.throwsAsync(async () => unpacked.rollback?.(context), {
    message: /to\/conf, \S+to\/rep were changed since/,
  })
  const held = Object.entries(treeOf(dest)).map(([name, { content }]) => [name, content])
  t.deepEqual(Object.fromEntries(held), { conf: 'theirs', rep: 'theirs', same: 'old' })
})

test.serial(
  'an archive or a name that somebody put in the place of ours stays; what is not kept does not come back',
  async t => {
    const { place, context } = await stage({ f: { content: 'f' } })
    const at = (name: string) => join(place, name)
    for (const step of [
      archive({ path: at('f'), dest: at('a') }),
      file({ path: at('a'), src: at('f'), state: 'hard' }),
    ]) {
      await step.run({ ...context, step: 'made' })
      await step.rollback?.({ ...context, step: 'made' })
      t.deepEqual(readdirSync(place), ['f'])
      await step.run(context)
      rmSync(at('a'))
      writeFileSync(at('a'), 'theirs')
      await t.throwsAsync(async () => step.rollback?.(context), { message: /a was changed since/ })
      rmSync(at('a'))
      await step.rollback?.(context)
    }
    writeFileSync(at('a'), 'old')
    const told: string[] = []
    const replaced = archive({ path: at('f'), dest: at('a'), keep: false })
    await replaced.run(context)
    await replaced.rollback?.({ ...context, log: line => void told.push(line) })
    t.deepEqual(told, [`${at('a')} does not come back: it was not kept`])
    t.true(existsSync(at('a')))
  },
)

test.serial('hosts may fetch to one file at once, and what is secret is so on the way back', async t => {
  const { place, context, connection } = await stage({ s: { content: 'old\n' } })
  writeFileSync(join(place, 'big'), Buffer.alloc(2_000_000, 'a'))
  writeFileSync(join(place, 'other'), Buffer.alloc(2_000_000, 'b'))
  const dest = join(place, 'got')
  await Promise.all(['big', 'other'].map(name => fetch({ src: join(place, name), dest, flat: true }).run(context)))
  t.is(new Set(readFileSync(dest)).size, 1)
  t.deepEqual(readdirSync(place).sort(), ['big', 'got', 'other', 's'])
  const seen: boolean[] = []
  const watched = stepContext(connection, context.folder, context.host, ({ secret }) => void seen.push(secret))
  const step = template({
    content: 'new\n',
    engine: 'consul-template',
    dest: join(place, 's'),
    secret: true,
    mode: '0644',
  })
  await step.run({ ...watched, step: 's' })
  await step.rollback?.({ ...watched, step: 's' })
  t.deepEqual(seen, [true, true])
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

test.serial('copy: a big file comes back, also where it was never replaced or is back already', async t => {
  const { place, context } = await stage({ f: { content: 'old\n'.repeat(400_000), mode: '0640' } })
  const path = join(place, 'f')
  const before = readFileSync(path)
  const step = copy({ path, content: 'new\n' })
  await step.run(context)
  t.is(readFileSync(path, 'utf8'), 'new\n')
  await step.rollback!(context)
  t.true(readFileSync(path).equals(before))
  t.is(statSync(path).mode & 0o777, 0o640)
  const again = { ...context, step: 'again' }
  await step.run(again)
  writeFileSync(path, before)
  await step.rollback!(again)
  t.true(readFileSync(path).equals(before))
  await step.run({ ...context, step: 'changed' })
  writeFileSync(path, 'somebody’s')
  await t.throwsAsync(async () => step.rollback!({ ...context, step: 'changed' }), { code: 'file.changed-since' })
  t.is(readFileSync(path, 'utf8'), 'somebody’s')
})
