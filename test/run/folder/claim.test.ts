// Whether a run is alive: by what can't be had twice, also where a host's name and a process' number can. The same machine, another
// namespace of processes, another's process: as containers have it.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { isAlive, thisProcess } from '../../../lib/process-identity.ts'
import { claimRun } from '../../../lib/run/folder/claim.ts'
import { temporaryFolder } from '../../_temporary.ts'

const modules = join(import.meta.dirname, '..', '..', '..', 'lib', 'run', 'folder')
/** A program that claims a folder, says who it is, and stays. */
const claimer = `
import { claimRun } from ${JSON.stringify(join(modules, 'claim.ts'))}
import { thisProcess } from ${JSON.stringify(join(modules, '..', '..', 'process-identity.ts'))}
await claimRun('r', process.argv[1], thisProcess())
console.log(JSON.stringify(thisProcess()))
setInterval(() => {}, 1000)`

/** Another process that claims a folder. */
async function claimed(folder: string, ...through: string[]): Promise<{ child: ChildProcess; said: string }> {
  const [program = '', ...words] = [...through, process.execPath, '--input-type=module', '-e', claimer, folder]
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'], detached: true })
  const [said] = (await once(child.stdout!, 'data')) as [Buffer]
  return { child, said: String(said) }
}

/** Why nothing of another namespace can be had here; empty where it can. */
function noNamespaces(): string {
  const { status, stderr, error } = spawnSync('unshare', ['--pid', '--fork', '--mount-proc', 'true'], {
    encoding: 'utf8',
  })
  return status === 0 ? '' : (error?.message ?? stderr.trim())
}
const missing = noNamespaces()
const namespaced = missing ? test.skip : test
if (missing) test.skip(`runs in other namespaces of processes not tested: ${missing}`, () => {})

const claimsOf = (folder: string) => readdirSync(join(folder, 'claims')).filter(name => !name.startsWith('.'))

test('claims have names of their own, whatever else lies there', async t => {
  const folder = temporaryFolder('claims')
  mkdirSync(join(folder, 'claims'))
  writeFileSync(join(folder, 'claims', '2'), JSON.stringify({ ...thisProcess(), started: 'long ago' }))
  writeFileSync(join(folder, 'claims', 'note'), 'x')
  const claim = await claimRun('r', folder, thisProcess())
  t.regex(claim.unclear.join(), /claims\/note can't be read/)
  t.true(existsSync(join(folder, 'claims', '3')))
  await t.throwsAsync(claimRun('r', folder, thisProcess()), { code: 'resume.running' })
  t.deepEqual(readdirSync(folder), ['claims'])
  claim.release()
  t.deepEqual(readdirSync(join(folder, 'claims')).sort(), ['2', '3', 'note'])
  const again = await claimRun('r', folder, thisProcess())
  again.release()
})

test("a copy of a folder is nobody's, however fresh the claims in it", async t => {
  const folder = temporaryFolder('claims')
  mkdirSync(join(folder, 'claims'))
  const foreign = { machine: 'elsewhere', pid: 7, started: '1', scope: 'other pid:[1] time:[1]', inode: 1 }
  writeFileSync(join(folder, 'claims', '0'), JSON.stringify(foreign))
  const claim = await claimRun('r', folder, thisProcess())
  t.deepEqual(claim.unclear, [])
  claim.release()
})

test('of several who come at once one has the folder', async t => {
  const folder = temporaryFolder('claims')
  const all = await Promise.allSettled([1, 2, 3, 4].map(() => claimRun('r', folder, thisProcess())))
  t.is(all.filter(({ status }) => status === 'fulfilled').length, 1)
  for (const one of all) if (one.status === 'fulfilled') one.value.release()
})

namespaced(
  'a run in another container of the same name lives while it lives, and is gone once it is killed',
  async t => {
    const folder = temporaryFolder('claims')
    const { child, said } = await claimed(folder, 'unshare', '--pid', '--fork', '--mount-proc', '--kill-child')
    try {
      const other = JSON.parse(said) as ReturnType<typeof thisProcess>
      t.is(other.machine, thisProcess().machine)
      t.is(isAlive(other), undefined, 'its number says nothing here')
      await t.throwsAsync(claimRun('r', folder, thisProcess()), {
        code: 'resume.running',
        message: /r is still running/,
      })
    } finally {
      process.kill(child.pid!, 'SIGKILL')
      await once(child, 'exit')
    }
    // unshare's child is killed with it, a moment later.
    const deadline = Date.now() + 60_000
    let claim: Awaited<ReturnType<typeof claimRun>> | undefined
    while (!claim) {
      claim = await claimRun('r', folder, thisProcess()).catch((error: Error) => {
        if (Date.now() > deadline) throw error
        return undefined
      })
    }
    t.deepEqual(claim.unclear, [])
    claim.release()
    t.is(
      readdirSync(join(folder, 'claims')).filter(name => name.startsWith('.')).length,
      0,
      'what it left is taken away',
    )
  },
)

namespaced('a process of which nothing may be seen (hidepid) is not taken for one that is gone', t => {
  const own = thisProcess()
  const script = `
import { isAlive } from ${JSON.stringify(join(modules, '..', '..', 'process-identity.ts'))}
const own = JSON.parse(process.argv[1])
console.log(isAlive(own), isAlive({ ...own, pid: 2 ** 22 + 1 }))`
  const said = execFileSync(
    'unshare',
    [
      ...[
        '-m',
        'sh',
        '-c',
        'mount -t proc -o hidepid=2 proc /proc && shift && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"',
      ],
      ...['sh', '--', process.execPath, '--input-type=module', '-e', script, JSON.stringify(own)],
    ],
    { encoding: 'utf8' },
  )
  t.is(said, 'undefined false\n')
})

test('the same number on another boot, in another namespace, or of an earlier rekey says nothing; here it says all', t => {
  const own = thisProcess()
  t.true(isAlive(own))
  t.false(isAlive({ ...own, started: '1' }))
  const [boot, ...spaces] = own.scope!.split(' ')
  t.is(isAlive({ ...own, scope: ['0000', ...spaces].join(' ') }), undefined)
  t.is(isAlive({ ...own, scope: `${boot} pid:[1] time:[1]` }), undefined)
  t.is(isAlive({ ...own, scope: '' }), undefined)
  const { scope: _, ...before } = own
  t.true(isAlive(before))
  t.is(isAlive({ ...before, started: '1' }), undefined)
  t.is(isAlive({ ...own, pid: -1 }), undefined)
})

test('where nobody can ask, whoever was heard of lately may live, and is not taken from; who was not is named', async t => {
  const folder = temporaryFolder('claims')
  mkdirSync(join(folder, 'claims'))
  const path = join(folder, 'claims', '0')
  writeFileSync(path, JSON.stringify({ machine: 'elsewhere', pid: 7, started: '1', scope: 'other pid:[1] time:[1]' }))
  await t.throwsAsync(claimRun('r', folder, thisProcess()), {
    code: 'resume.running',
    message: /r may still be running: process 7 on elsewhere was last heard of .* ago, and can't be seen from here/,
  })
  const before = Date.now() / 1_000 - 300
  utimesSync(path, before, before)
  const claim = await claimRun('r', folder, thisProcess())
  t.regex(claim.unclear.join(), /whether process 7 on elsewhere still goes on with this run can't be told from here/)
  claim.release()
  const [, own] = claimsOf(folder)
  t.true(JSON.parse(readFileSync(join(folder, 'claims', own!), 'utf8')).ended)
  rmSync(path)
  t.true(statSync(join(folder, 'claims', own!)).isFile())
})
