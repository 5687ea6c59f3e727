// How etcd is asked and backed up on masters that have no etcdctl of their own, as kubeadm leaves them.
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { quote } from '../../../lib/connection/shell.ts'
import type { RekeyError } from '../../../lib/errors.ts'
import { countObjects, etcdMembers, requireEtcdTools, saveSnapshot } from '../../../lib/kubernetes/components/etcd.ts'
import { etcdAccess } from '../../../lib/kubernetes/components/etcd-access.ts'
import { kubeadmLayout } from '../../../lib/kubernetes/layout/kubeadm/index.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { localSession } from '../_local.ts'

// Whoever looks for etcd must find that of the test, and none that runs on this machine.
const alone = ['unshare', process.getuid?.() === 0 ? '-mpf' : '-rmpf', '--mount-proc']
const possible = spawnSync(alone[0]!, [...alone.slice(1), 'true']).status === 0

const folder = mkdtempSync(join(tmpdir(), 'rekey-etcd-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const members =
  '{"header":{"member_id":1},"members":[{"ID":7203384094106648694,"name":"ip-10-0-0-1","clientURLs":["https://10.0.0.1:2379"]}]}'
const status = JSON.stringify({ hash: 255, revision: 7, totalKey: 3, totalSize: 4096 })

/** A program that says what etcd's would, and which it was. */
const etcdctl = (who: string) => `#!/bin/sh
[ "$ETCDCTL_API" = 3 ] || exit 9
case "$*" in
version) ;;
'member list -w json') echo '${members}' ;;
*' get /registry/ /registry0 '*|*' get /registry/'*)
  from=$3; echo '"Revision" : 9000'
  seq -f '/registry/pods/default/p%05.0f' 1 7001 | awk -v from="$from" '$0 >= from { printf "\\"Key\\" : \\"%s\\"\\n\\"CreateRevision\\" : %d\\n\\"ModRevision\\" : %d\\n", $0, NR, 9000; if (++n == 5000) exit }' ;;
*' get /empty/ '*) echo '"Revision" : 9000' ;;
'snapshot save '*) echo ${who} >"$3" ;;
'snapshot --help') echo "COMMANDS:"; echo "	save	Stores a snapshot"; [ ${who} != old ] || echo "	status	Gets its status" ;;
'snapshot status '*) grep -qx ${who} "$3" && [ ${who} = old ] && echo '${status}' ;;
*) exit 8 ;;
esac
`
const etcdutl = `#!/bin/sh
case "$*" in
version) ;;
'snapshot status '*) grep -qx new "$3" && echo '${status}' ;;
*) exit 8 ;;
esac
`

interface Kind {
  /** What lies beside the etcd that runs; none where undefined: no etcd runs. */
  readonly beside?: Readonly<Record<string, string>>
  readonly onPath?: Readonly<Record<string, string>>
}

const access = etcdAccess(kubeadmLayout('m1', true))

let count = 0

/** A host on which an etcd runs whose folder is nowhere on the PATH. */
async function master({ beside, onPath = {} }: Kind): Promise<{ session: HostSession; at: (name: string) => string }> {
  const own = join(folder, `${++count}`)
  const [image, path] = [join(own, 'opt'), join(own, 'bin')]
  for (const one of [own, image, path]) mkdirSync(one)
  for (const [into, programs] of [
    [image, beside ?? {}],
    [path, onPath],
  ] as const)
    for (const [name, text] of Object.entries(programs)) writeFileSync(join(into, name), text, { mode: 0o755 })
  copyFileSync('/bin/sleep', join(image, 'etcd'))
  chmodSync(join(image, 'etcd'), 0o755)
  // Until its program runs, it is a copy of the shell.
  const etcd = beside
    ? `${quote(join(image, 'etcd'))} 60 & until grep -qzx ${quote(join(image, 'etcd'))} /proc/$!/cmdline; do sleep 0.01; done; `
    : ''
  const session = await localSession(
    line => `${alone.join(' ')} sh -c ${quote(`${etcd}export PATH=${path}:/usr/sbin:/usr/bin:/sbin:/bin; ${line}`)}`,
  )
  return { session, at: name => join(own, name) }
}

const kinds: readonly (readonly [string, Kind, string])[] = [
  ['beside the etcd that runs', { beside: { etcdctl: etcdctl('new'), etcdutl } }, 'new'],
  ['of an etcd before 3.6, whose etcdctl does it all', { beside: { etcdctl: etcdctl('old') } }, 'old'],
  [
    'beside the etcd that runs, before others of the host',
    { beside: { etcdctl: etcdctl('new'), etcdutl }, onPath: { etcdctl: etcdctl('old') } },
    'new',
  ],
  [
    "of the host, where those in the container don't run there",
    { beside: { etcdctl: '#!/no/such/loader\n' }, onPath: { etcdctl: etcdctl('new'), etcdutl } },
    'new',
  ],
]

for (const [where, kind, who] of kinds)
  (possible ? test : test.skip)(`members are listed and snapshots checked by programs ${where}`, async t => {
    const { session, at } = await master(kind)
    await requireEtcdTools(session)
    t.deepEqual(await etcdMembers(session, access), [
      { id: '63f78fab1ded0076', name: 'ip-10-0-0-1', clientUrls: ['https://10.0.0.1:2379'], learner: false },
    ])
    const saved = await saveSnapshot(session, access, at('etcd.db'))
    t.deepEqual(saved, { hash: 'ff', revision: 7, keys: 3, size: 4096 })
    t.is(readFileSync(at('etcd.db'), 'utf8').trim(), who)
    t.is(statSync(at('etcd.db')).mode & 0o777, 0o600)
  })

for (const [missing, kind] of [
  ['etcdctl', { beside: { etcdutl } }],
  ['etcdutl', { beside: { etcdctl: etcdctl('new') } }],
] as const)
  (possible ? test : test.skip)(
    `a master without ${missing} is told so by its name, before anything is done`,
    async t => {
      const { session, at } = await master(kind)
      const error = await t.throwsAsync<RekeyError>(() => requireEtcdTools(session), { code: 'etcd.no-tools' })
      t.regex(error.message, new RegExp(`^m1 has no ${missing}, `))
      t.regex(error.hint ?? '', new RegExp(`Install ${missing} there`))
      await t.throwsAsync(() => saveSnapshot(session, access, at('etcd.db')))
      t.false(existsSync(at('etcd.db')) || existsSync(at('etcd.db.new')), 'a snapshot that was not checked is none')
    },
  )

;(possible ? test : test.skip)(
  'where etcd does not answer, one key is asked for, and no page is waited for',
  async t => {
    const down = '#!/bin/sh\necho "$@" >>"$(dirname "$0")/asked"; [ "$1" = version ]\n'
    const { session, at } = await master({ beside: { etcdctl: down } })
    await t.throwsAsync(countObjects(session, access, '/registry/'))
    const asked = readFileSync(at('opt/asked'), 'utf8').trim().split('\n')
    t.deepEqual(asked.filter(line => line.includes(' get ')).length, 1, asked.join(' | '))
    t.regex(asked.at(-1) ?? '', /--command-timeout=10s get .* --limit=1 /)
  },
)

;(possible ? test : test.skip)('objects are counted page by page, each once; nothing there is no count', async t => {
  const { session } = await master({ beside: { etcdctl: etcdctl('new') } })
  t.deepEqual(await countObjects(session, access, '/registry/', 7_000), {
    ...{ kinds: { pods: 7_001 }, created: { pods: 1 }, changed: { pods: 7_000 }, revision: 9_000 },
  })
  await t.throwsAsync(countObjects(session, access, '/empty/'), { code: 'etcd.nothing' })
})
