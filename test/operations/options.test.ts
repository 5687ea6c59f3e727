// Options of operations: a mistake is one clear error where the playbook is loaded; modes are what chmod makes of them.
import test from 'ava'
import { file } from '../../lib/operations/files/file.ts'
import { modeBits, modeKind } from '../../lib/operations/files/mode.ts'
import { user } from '../../lib/operations/system/user.ts'

test('an option that there is not, is missing or of the wrong kind is told when the playbook is loaded, with what was meant', t => {
  const told = (options: object) => t.throws(() => file(options as never))?.message
  t.is(told({ path: '/x', sate: 'absent' }), "file({ sate }): there is no such option; did you mean 'state'?")
  t.is(
    told({ path: '/x', modification_time: 'now' }),
    "file({ modification_time }): there is no such option; did you mean 'modificationTime'?",
  )
  t.is(told({ state: 'absent' }), 'file() needs path')
  t.regex(told({ path: 'x' })!, /file\(\{ path \}\): it must be an absolute path/)
  t.regex(told({ path: '/x', state: 'gone' })!, /one of file, directory, absent, link, hard, touch/)
  t.regex(told({ path: '/x', src: '/y' })!, /it goes with state: 'link' or 'hard'/)
  t.regex(told({ path: '/x', owner: 'a:b' })!, /one user or group/)
  t.regex(told([{ path: '/x' }, { path: '/y', mode: 755 }])!, /a number needs its 0o/)
})

test('a password that is no hash is told without a letter of it', t => {
  const told = t.throws(() => user({ name: 'x', password: 'hunter2plain' }))?.message
  t.is(
    told,
    'user({ password }): it must be the hash of a password, as `openssl passwd -6` prints it, or *, not what was given',
  )
})

test('a mode is a number, octal text or words; 644 without its 0o is none', t => {
  const at = (bits: number, folder = false) => ({ bits, folder })
  t.is(modeBits(0o640, at(0), 0o022), 0o640)
  t.is(modeBits('0640', at(0), 0o022), 0o640)
  t.is(modeBits('u=rwX,go=rX', at(0o600), 0o022), 0o644)
  t.is(modeBits('u=rwX,go=rX', at(0o600, true), 0o022), 0o755)
  t.is(modeBits('+w', at(0o444), 0o022), 0o644)
  t.is(modeBits('g=u,o-rwx', at(0o714), 0o022), 0o770)
  t.is(modeBits('u+s,o+t', at(0o755), 0o022), 0o5755)
  for (const mode of [644, 755, '9', 'u=q', 0o10000, -1, '']) t.false(modeKind.fits(mode), String(mode))
  for (const mode of [0o644, 0o4755, '2750', 'a-x', 'u=rw,g=,o=', 'u=rw-x+X']) t.true(modeKind.fits(mode), String(mode))
})
