// `rekey run restore` from the command line, as far as it looks: a backup that is not to be put back is one clear error each, and nothing is changed.
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { temporaryFolder } from '../_temporary.ts'
import { database, scene } from '../cli/reading/_backups.ts'

const machine = readFileSync('/etc/machine-id', 'utf8').trim()
const run = '20260102-030405-backup-1a2b'

/** What comes of a restore that nobody has confirmed: where nothing is wrong, that. */
async function restored({ bench }: ReturnType<typeof scene>, ...words: string[]) {
  const variables = JSON.stringify({ backup_directory: join(bench.folder, 'on-host') })
  const { code, stdout, stderr } = await bench.rekey([
    ...['run', 'restore', '-i', bench.inventory, '-e', variables, '-e', `from=${run}`, ...words],
  ])
  return { code, said: stdout + stderr }
}

test.serial(
  'what will be lost and changed is said, and nothing is done before the name of the cluster was typed',
  async t => {
    const cluster = scene()
    await cluster.made(run, { machine })
    const files = ['-e', 'parts=files', '-e', 'accept_other_trust=true']
    const { code, said } = await restored(cluster, ...files)
    t.is(code, 2, said)
    t.regex(said, /m1: 3 are gone, and come back: \/etc\/kubernetes\/pki\/apiserver\.crt/)
    t.regex(said, /nobody has confirmed that kubernetes is to be put back to what it was/)
    t.regex(said, /-e confirm=kubernetes/)
    const wrong = await restored(cluster, ...files, '-e', 'confirm=staging', '-e', 'cluster_name=production')
    t.regex(wrong.said, /production was to be confirmed, and "staging" was/)
    const check = await restored(cluster, ...files, '--check')
    t.is(check.code, 0, check.said)
    t.regex(check.said, /put 3 files back as they were/)
  },
)

test.serial('a backup of another cluster, from the future, cut off, or none at all', async t => {
  const other = scene()
  await other.made(run, { machine: 'another' })
  t.regex((await restored(other)).said, /is the backup of another cluster: none of m1 is a machine of it/)
  const ahead = scene()
  await ahead.made(run, { machine, days: -1 })
  t.regex((await restored(ahead)).said, /is not good: .* was made on .*, which is in the future/)
  const cut = scene()
  const { snapshot } = await cut.made(run, { machine })
  writeFileSync(snapshot, database().subarray(0, 4000))
  t.regex((await restored(cut)).said, /is not good: .*etcd\.db has 4000 bytes instead of 4128/)
  const files = scene()
  await files.made(run, { machine, etcd: false })
  t.regex((await restored(files)).said, /has no snapshot of etcd/)
  const { code, said } = await restored(scene())
  t.regex(said, /there is no run '20260102-030405-backup-1a2b'/)
  t.is(code, 2)
})

test.serial('an inventory with one master fewer', async t => {
  const cluster = scene()
  await cluster.made(run, { machine, members: ['m1', 'm2'] })
  const { code, said } = await restored(cluster)
  t.is(code, 2)
  t.regex(said, /takes all members and API servers of then at once, and the run has not m2/)
})

test.serial('members on hosts that the backup does not know', async t => {
  const cluster = scene()
  await cluster.made(run, { machine, listed: ['m1', 'm2', 'm3'] })
  t.regex((await restored(cluster)).said, /etcd had the members m2, m3 as well when .* was made/)
})

test.serial('files over an etcd of now, where nobody can say what the cluster goes by', async t => {
  const cluster = scene()
  await cluster.made(run, { machine })
  const { code, said } = await restored(cluster, '-e', 'parts=files')
  t.is(code, 2)
  t.regex(said, /nobody can be asked by which keys etcd is encrypted now/)
})

test.serial('a folder that has become a link since', async t => {
  const cluster = scene()
  const folder = temporaryFolder('pki')
  const pki = join(folder, 'pki')
  mkdirSync(join(folder, 'data'))
  symlinkSync(join(folder, 'data'), pki)
  writeFileSync(join(folder, 'data', 'apiserver.key'), 'of now')
  await cluster.made(run, { machine, path: pki })
  const { code, said } = await restored(cluster, '-e', 'parts=files', '-e', 'accept_other_trust=true')
  t.is(code, 2)
  t.regex(said, /folders of m1 lead elsewhere than when it was backed up: .*pki\/apiserver\.crt/)
  t.is(readFileSync(join(folder, 'data', 'apiserver.key'), 'utf8'), 'of now')
})

test.serial('nobody says which backup', async t => {
  const { bench } = scene()
  const { code, stderr, stdout } = await bench.rekey(['run', 'restore', '-i', bench.inventory])
  t.is(code, 2)
  t.regex(stdout + stderr, /nobody has said which backup is to be put back/)
})
