// Who runs rekey: in containers, a user id may have no entry in the passwd file, and HOME may not be set.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import test from 'ava'
import { expandHome, homeFolder, loginName } from '../lib/operator.ts'

test('HOME and USER are taken from the environment', t => {
  t.is(homeFolder({ HOME: '/h' }), '/h')
  t.is(expandHome('~/x', { HOME: '/h' }), '/h/x')
  t.is(expandHome('~', { HOME: '/h' }), '/h')
  t.is(expandHome('/x/~/y', { HOME: '/h' }), '/x/~/y')
  t.is(loginName({ USER: 'somebody' }), 'somebody')
})

const asRoot = process.getuid?.() === 0 ? test : test.skip

/** What a user id without a passwd entry finds. Everything is loaded while it is root: a checkout may be closed to others. */
function found(environment: Record<string, string>): Record<string, unknown> {
  const lib = join(import.meta.dirname, '..', 'lib')
  const script = `
    const [operator, inventory, folder, config] = await Promise.all(['operator.ts', 'inventory/index.ts', 'run/folder/folder.ts',
      'inventory/connection/ssh-config.ts'].map(name => import('${lib}/' + name)))
    process.setgid(54321); process.setuid(54321)
    const tell = async action => { try { return await action() } catch (error) { return { message: error.message, code: error.code } } }
    const { hosts } = await inventory.loadInventory({ sources: ['l,', 'r,'], extraVars: [], cwd: '/' })
    const [local, remote] = hosts
    console.log(JSON.stringify({
      name: await tell(() => operator.operatorName()),
      home: await tell(() => operator.homeFolder()),
      login: await tell(() => remote.connection.user),
      runs: await tell(() => folder.runsDirectory()),
    }))`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: process.env['PATH'], ...environment },
    encoding: 'utf8',
  })
  if (stdout === '') throw new Error(stderr)
  return JSON.parse(stdout) as Record<string, unknown>
}

asRoot('a user id without a passwd entry works, or is told what it needs', t => {
  t.like(found({}), {
    name: 'uid 54321',
    home: {
      code: 'operator.no-home',
      message: 'there is no home folder: HOME is not set, and the user id 54321 has no passwd entry',
    },
    login: { code: 'operator.no-name' },
    runs: { code: 'operator.no-home' },
  })
  t.like(found({ HOME: '/h', USER: 'me', XDG_STATE_HOME: '/s' }), {
    name: 'me',
    home: '/h',
    login: 'me',
    runs: '/s/rekey/runs',
  })
  t.is(found({ XDG_STATE_HOME: '/s' })['runs'], '/s/rekey/runs')
})
