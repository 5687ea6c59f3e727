// Where compiled code is kept, as bin/rekey starts: Node runs whatever it finds in that folder.
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import test from 'ava'
import { start } from '../_process.ts'
import { temporaryFolder } from '../_temporary.ts'

const file = join(import.meta.dirname, '..', '..', 'bin', 'compile-cache.cjs')
const program = `process.stdout.write(String(require(${JSON.stringify(file)}).compileCacheFolder()))`
const mode = (path: string) => statSync(path).mode & 0o777

/** The folder that a process with these variables keeps compiled code in, or `undefined`; it is started in `cwd`. */
async function folderWith(env: Readonly<Record<string, string | undefined>>, cwd = '/'): Promise<string> {
  const line = `cd '${cwd}' && exec '${process.execPath}' -e "$PROGRAM"`
  const { code, stdout, all } = await start('/bin/sh', ['-c', line], { PROGRAM: program, ...env })
  if (code !== 0) throw new Error(all)
  return stdout
}

test('is made for this user alone, and stays', async t => {
  const cache = join(temporaryFolder('cache'), 'not', 'yet')
  const folder = join(cache, 'rekey', 'compiled')
  for (const _ of [1, 2]) {
    t.is(await folderWith({ XDG_CACHE_HOME: cache }), folder)
    t.is(mode(folder), 0o700)
    if (_ === 1) writeFileSync(join(folder, 'kept'), '')
  }
  t.deepEqual(readdirSync(folder), ['kept'])
})

test('is none where its path is not absolute, and nothing is made in the current folder', async t => {
  const clone = temporaryFolder('clone')
  for (const env of [{ HOME: '' }, { HOME: 'here' }, { XDG_CACHE_HOME: '.cache', HOME: clone }])
    t.is(await folderWith(env, clone), 'undefined', JSON.stringify(env))
  t.deepEqual(readdirSync(clone), [])
})

test('is begun anew where others could write in it, or look into it', async t => {
  for (const open of [0o777, 0o775, 0o755]) {
    const cache = temporaryFolder('cache')
    const folder = join(cache, 'rekey', 'compiled')
    mkdirSync(join(folder, 'v24'), { recursive: true })
    writeFileSync(join(folder, 'v24', 'entry'), 'code')
    chmodSync(folder, open)
    t.is(await folderWith({ XDG_CACHE_HOME: cache }), folder)
    t.deepEqual(readdirSync(folder), [])
    t.is(mode(folder), 0o700)
  }
})

test('is no link, and what a link leads to stays as it is', async t => {
  const cache = temporaryFolder('cache')
  const elsewhere = temporaryFolder('elsewhere')
  writeFileSync(join(elsewhere, 'entry'), 'code')
  mkdirSync(join(cache, 'rekey'))
  symlinkSync(elsewhere, join(cache, 'rekey', 'compiled'))
  const folder = await folderWith({ XDG_CACHE_HOME: cache })
  t.is(folder, join(cache, 'rekey', 'compiled'))
  t.deepEqual(readdirSync(folder), [])
  t.deepEqual(readdirSync(elsewhere), ['entry'])
})

test('is none below a folder in which others may write, by whatever link it is reached', async t => {
  const top = temporaryFolder('shared')
  const shared = join(top, 'shared')
  mkdirSync(shared)
  chmodSync(shared, 0o777)
  symlinkSync(shared, join(top, 'link'))
  for (const cache of [shared, join(top, 'link'), join(shared, 'below')])
    t.is(await folderWith({ XDG_CACHE_HOME: cache }), 'undefined', cache)
  t.deepEqual(readdirSync(shared), [])
  // As /tmp: nobody moves there what is somebody else's.
  chmodSync(shared, 0o1777)
  t.is(await folderWith({ XDG_CACHE_HOME: join(top, 'link') }), join(shared, 'rekey', 'compiled'))
})

const asRoot = process.getuid?.() === 0 ? test : test.skip
asRoot("is none in another user's home folder, as with sudo -E, and nothing of root's is left there", async t => {
  const home = temporaryFolder('home')
  chownSync(home, 65_534, 65_534)
  t.is(await folderWith({ HOME: home }), 'undefined')
  t.deepEqual(readdirSync(home), [])
  for (const path of ['.cache', '.cache/rekey', '.cache/rekey/compiled']) {
    mkdirSync(join(home, path), { mode: 0o700 })
    chownSync(join(home, path), 65_534, 65_534)
  }
  t.is(await folderWith({ HOME: home }), 'undefined')
})

test('makes nothing where a clone has no folder of the cache yet', t => {
  const before = process.env['XDG_CACHE_HOME']
  const cache = temporaryFolder('cache')
  const { compileCacheFolder } = createRequire(import.meta.url)(file) as {
    compileCacheFolder(options: { makes: boolean }): string | undefined
  }
  try {
    process.env['XDG_CACHE_HOME'] = cache
    t.is(compileCacheFolder({ makes: false }), undefined)
    t.false(existsSync(join(cache, 'rekey')))
  } finally {
    if (before === undefined) delete process.env['XDG_CACHE_HOME']
    else process.env['XDG_CACHE_HOME'] = before
  }
})
