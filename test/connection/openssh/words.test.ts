// What the system's ssh says: its own words, and not those that a server puts into them.
import test from 'ava'
import { passphraseFor, presentedKey } from '../../../lib/connection/openssh/master.ts'

test('only ssh’s own question for a passphrase is one: a server that asks alike gets none', t => {
  t.is(passphraseFor("Enter passphrase for key '/home/op/.ssh/id': "), '/home/op/.ssh/id')
  t.is(passphraseFor('Enter passphrase for /home/op/.ssh/id: '), '/home/op/.ssh/id')
  for (const question of [
    "(root@m1) Enter passphrase for key '/home/op/.ssh/id': ",
    "Welcome\nEnter passphrase for key '/home/op/.ssh/id': ",
    'Password: ',
  ])
    t.is(passphraseFor(question), undefined, question)
})

test('the host key is what ssh says was presented, whatever the server calls itself', t => {
  const fake = 'ssh-ed25519 SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
  const real = 'ssh-ed25519 SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB'
  const said = [
    `debug1: Remote protocol version 2.0, remote software version x Server host key: ${fake}`,
    `debug1: Server host key: ${real}`,
    'Host key verification failed.',
  ]
  t.is(presentedKey(said.join('\r\n')), real)
  t.is(presentedKey(said[0] ?? ''), undefined)
})
