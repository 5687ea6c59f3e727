// `user` by the real useradd, on accounts that are copies: what comes of each case is what ansible-core's module made of it, and is undone.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { Connection } from '../../../lib/connection/connection.ts'
import { connectLocal } from '../../../lib/connection/local.ts'
import { quote } from '../../../lib/connection/shell.ts'
import { user } from '../../../lib/operations/system/user.ts'
import { localSettings, trial } from '../../operations/_operation.ts'
import { canHaveUsers, makeUsers, runThere, stateOf, type UserCase } from '../../operations/_users.ts'

const real = canHaveUsers ? test.serial : test.skip
const file = join(import.meta.dirname, '..', '..', 'operations', 'users.json')

real(
  'accounts come to what ansible-core makes of them, a second time changes nothing, and they are undone',
  async t => {
    const cases = JSON.parse(readFileSync(file, 'utf8')) as UserCase[]
    const users = await makeUsers()
    t.teardown(users.close)
    const here = connectLocal('h1', localSettings)
    const there: Connection = {
      ...here,
      lost: undefined,
      spawn: (line, options) => here.spawn(`exec ${users.enter.map(quote).join(' ')} sh -c ${quote(line)}`, options),
    }
    const on = trial(there)
    for (const { about, before, options, ansible, rekey } of cases) {
      for (const command of before) runThere(users, command)
      const state = () => runThere(users, stateOf(options.name)).trim()
      const untouched = state()
      const expected = { failed: false, ...ansible!, ...rekey }
      const asked = user(options as never)
      if (expected.failed) {
        await t.throwsAsync(on.run(asked), undefined, about)
        t.is(state(), untouched, about)
        continue
      }
      t.is((await on.plan(asked)).length > 0, expected.check, `${about}: its plan`)
      t.is(state(), untouched, `${about}: its plan changes something`)
      t.is((await on.run(asked)).changed, expected.changed, about)
      t.is(state(), expected.after, about)
      const more = await on.plan(user(options as never))
      t.deepEqual(more.length > 0, expected.again, `${about}, again: ${more}`)
      t.is((await on.run(user(options as never))).changed, expected.again, `${about}, again`)
      if (options['remove']) {
        await t.throwsAsync(on.rollback(asked), { message: /was removed, and does not come back/ }, about)
        t.is(state().split('\n')[0], untouched.split('\n')[0], `${about}: undone`)
      } else {
        await on.rollback(asked)
        t.is(state(), untouched, `${about}: undone`)
      }
    }

    // What others did since is theirs.
    const made = user({ name: 'later', home: '/home/later' })
    const onHost = (script: string) => runThere(users, script).trim()
    await on.run(made)
    onHost('echo data >/home/later/own')
    await on.rollback(made)
    t.is(onHost('getent passwd later; cat /home/later/own'), 'data', 'a home that something was put into stays')
    onHost('rm -r /home/later')
    await on.run(made)
    onHost('mkdir /home/other; echo data >/home/other/own; usermod -d /home/other later')
    await on.rollback(made)
    t.is(onHost('getent passwd later; cat /home/other/own'), 'data', 'so does one that it got since')
    const without = user({ name: 'bare', createHome: false })
    await on.run(without)
    onHost('cp -a /etc/skel /home/bare; chown -R bare /home/bare')
    await on.rollback(without)
    t.is(onHost('getent passwd bare; [ -d /home/bare ] && echo there'), 'there', 'and one that rekey did not make')
    const one = { name: 'x', before: null, hadHome: false, moved: false, makesHome: true }
    const account = {
      uid: 1,
      gid: 1,
      comment: '',
      home: '/',
      shell: '',
      groups: [],
      password: '',
      shadow: 'x:!:$(x):::::',
    }
    for (const kept of [
      {},
      [{ ...one, name: '$(x)' }],
      [{ ...one, before: account }],
      [{ ...one, before: { ...account, uid: '$(x)' } }],
    ])
      await t.throwsAsync(on.rollbackBy(made, 'user', kept), { message: /is not what it notes/ })
  },
)
