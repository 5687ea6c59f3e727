// Which program makes members from a snapshot, and with what: all members by the same one, with the same revisions.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { quote } from '../../../lib/connection/shell.ts'
import { asideIn, dataFromSnapshot, restoringTool } from '../../../lib/kubernetes/backups/etcd-data.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { localSession } from '../_local.ts'

// Whoever looks for etcd must find the programs of the test, and none of an etcd that runs on this machine.
const alone = ['unshare', process.getuid?.() === 0 ? '-mpf' : '-rmpf', '--mount-proc']
const possible = spawnSync(alone[0]!, [...alone.slice(1), 'true']).status === 0

/** A program that says what etcdutl says, and notes how it was called. */
const etcdutl = (version: string, bumps: boolean) => `#!/bin/sh
case "$*" in
version) printf 'etcdutl version: ${version}\\nAPI version: ${version.slice(0, 3)}\\n' ;;
'snapshot restore --help') echo '      --data-dir string'; ${bumps ? "echo '      --bump-revision uint'" : ':'} ;;
'snapshot restore '*)
  echo "$*" >"$(dirname "$0")/called"
  case "$*" in *--bump-revision*) ${bumps ? ':' : "echo 'unknown flag: --bump-revision' >&2; exit 2"} ;; esac
  while [ "$1" != --data-dir ]; do shift; done; mkdir -p "$2/member" ;;
*) exit 8 ;;
esac
`

async function host(version: string, bumps: boolean) {
  const folder = temporaryFolder('tool')
  const [bin, data] = [join(folder, 'bin'), join(folder, 'data')]
  mkdirSync(bin)
  writeFileSync(join(bin, 'etcdutl'), etcdutl(version, bumps), { mode: 0o755 })
  const session = await localSession(
    line => `${alone.join(' ')} sh -c ${quote(`export PATH=${bin}:/usr/sbin:/usr/bin:/sbin:/bin; ${line}`)}`,
  )
  const called = () => readFileSync(join(bin, 'called'), 'utf8')
  return { session, data, called }
}

const member = { name: 'm1', peers: ['https://m1:2380'], members: ['m1=https://m1:2380'], token: 't' }

const check = possible ? test : test.skip

check('an etcdutl of 3.6 can raise revisions, an older one can not, and both say which they are', async t => {
  t.deepEqual(await restoringTool((await host('3.6.4', true)).session), { version: '3.6.4', bumps: true })
  t.deepEqual(await restoringTool((await host('3.5.16', false)).session), { version: '3.5.16', bumps: false })
})

check('a member whose tool could raise them does not where another one could not', async t => {
  const { session, data, called } = await host('3.6.4', true)
  await dataFromSnapshot(session, 'r1', '/snapshot', { ...member, data, bump: false, version: '3.6.4' })
  t.notRegex(called(), /bump/)
  await dataFromSnapshot(session, 'r1', '/snapshot', { ...member, data, bump: true, version: '3.6.4' })
  t.regex(called(), /--bump-revision 1000000000 --mark-compacted/)
  t.true(existsSync(join(asideIn(data, 'r1'), 'new', 'member')))
})

check('a tool that can not do what is asked, or is another one than was found, makes nothing', async t => {
  const old = await host('3.5.16', false)
  const of = { ...member, data: old.data, bump: true, version: '3.5.16' }
  await t.throwsAsync(dataFromSnapshot(old.session, 'r1', '/snapshot', of), {
    message: /unknown flag: --bump-revision/,
  })
  const other = await host('3.5.16', false)
  await t.throwsAsync(dataFromSnapshot(other.session, 'r1', '/s', { ...of, data: other.data, version: '3.6.4' }), {
    message: /it would be made by etcd 3\.5\.16, and 3\.6\.4 was found/,
  })
  t.false(existsSync(other.data))
})
