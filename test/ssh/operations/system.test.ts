// Operations on what a host runs and is do what Ansible's modules do in the same cases: all over the local connection, some to a real sshd.
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { connect } from '../../../lib/connection/connect.ts'
import { authorizedKey } from '../../../lib/operations/system/authorized-key.ts'
import { command } from '../../../lib/operations/system/command.ts'
import { service } from '../../../lib/operations/system/service.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { standInEnvironment } from '../../operations/_cases.ts'
import { trial } from '../../operations/_operation.ts'
import { casesOf, runCases } from '../../operations/_run-cases.ts'
import { sshdMissing, startSshd } from '../sshd.ts'

const operations: Readonly<Record<string, (options: never) => StepDefinition>> = {
  authorizedKey,
  command,
  service,
}

const settings = { kind: 'local' } as never

for (const [name, stepOf] of Object.entries(operations)) {
  test.serial(`${name}: as Ansible, on this machine`, async t => {
    const file = casesOf(name)
    t.true(file.cases.length >= 10)
    const connection = await connect('h1', settings)
    await runCases(
      t,
      connection,
      settings,
      file,
      options => stepOf(options),
      place => standInEnvironment(file, place),
    )
    connection.close()
  })
}

const asRoot = process.getuid?.() === 0 ? test.serial : test.skip

asRoot('nothing that is not an account’s own comes to it, whatever it puts in the place of its keys', async t => {
  const folder = temporaryFolder('keys')
  chmodSync(folder, 0o755)
  const [home, etc] = [join(folder, 'home'), join(folder, 'etc')]
  const [ssh, keys, secrets] = [join(home, '.ssh'), join(home, '.ssh/authorized_keys'), join(etc, 'shadow')]
  const account = { uid: 65534, gid: 65534 }
  for (const path of [home, ssh, etc]) mkdirSync(path)
  for (const path of [home, ssh]) chownSync(path, account.uid, account.gid)
  writeFileSync(secrets, 'root:hash:1::\n', { mode: 0o600 })
  const isUntouched = (about: string) => {
    const [of, file] = [lstatSync(etc), lstatSync(secrets)]
    t.deepEqual([of.uid, of.mode & 0o777, file.uid, file.mode & 0o777], [0, 0o755, 0, 0o600], about)
    t.is(readFileSync(secrets, 'utf8'), 'root:hash:1::\n', about)
  }
  const on = trial()
  const options = {
    user: 'nobody',
    key: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAA000000000000000000000000000000A a',
  }
  const refused = async (more: object, message: RegExp, about: string) => {
    const asked = authorizedKey({ ...options, path: keys, ...more })
    await t.throwsAsync(on.plan(asked), { message }, about)
    await t.throwsAsync(on.run(asked), { message }, about)
    isUntouched(about)
  }
  symlinkSync(secrets, keys)
  await refused({}, /is a link/, 'a link is not read through')
  await refused({ follow: true }, /is a link that others may lay/, 'nor followed, where the account laid it')
  rmSync(keys)
  writeFileSync(join(home, 'private'), 'root:hash:1::\n', { mode: 0o600 })
  renameSync(join(home, 'private'), keys)
  await refused({}, /is not nobody's, who may not read it/, 'nor is a file of root’s that was moved there')
  rmSync(keys)
  await refused(
    { path: join(etc, 'nobody.keys'), manageDir: true },
    /is not the account's own/,
    'nor a folder given away',
  )
  const outside = authorizedKey({ ...options, path: join(etc, 'nobody.keys') })
  t.true((await on.run(outside)).changed)
  t.is(lstatSync(join(etc, 'nobody.keys')).uid, account.uid)
  isUntouched('a folder outside of the home stays')
  await on.rollback(outside)

  const own = authorizedKey({ ...options, path: keys, manageDir: true })
  t.true((await on.run(own)).changed)
  t.deepEqual([lstatSync(ssh).mode & 0o777, lstatSync(keys).uid], [0o700, account.uid])
  renameSync(ssh, join(home, 'old'))
  symlinkSync(etc, ssh)
  await t.throwsAsync(on.rollback(own), { message: /is a link that others may lay/ })
  isUntouched('what is in the place of the folder by now is not given away when it is undone')
  rmSync(ssh)
  renameSync(join(home, 'old'), ssh)
  await on.rollback(own)
  t.deepEqual([lstatSync(ssh).mode & 0o777, lstatSync(keys, { throwIfNoEntry: false })], [0o755, undefined])

  const forged = [
    { path: keys, user: 'nobody', owner: '0:0', isBehind: false, after: '', managed: true, folder: '755 $(x):0 1:1' },
  ]
  const noted = { ...forged[0], path: `${etc}/x` }
  for (const kept of [forged, [noted], {}, [null]])
    await t.throwsAsync(on.rollbackBy(own, 'authorizedKey', kept), { message: /is not what it notes/ })
})

const missing = sshdMissing()
const real = missing ? test.skip : test.serial

real('each of them as Ansible, to an sshd', async t => {
  const sshd = await startSshd()
  const connection = await connect('h1', { ...sshd.settings, connectTimeout: 60 })
  try {
    for (const [name, stepOf] of Object.entries(operations)) {
      const file = casesOf(name)
      // An sshd gives its commands an environment of its own.
      if (file.standIns) continue
      const few = { ...file, cases: file.cases.filter((_, index) => index % 8 === 0) }
      await runCases(t, connection, sshd.settings, few, options => stepOf(options))
    }
  } finally {
    connection.close()
    await sshd.stop()
  }
})
