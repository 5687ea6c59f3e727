// `rekey backups` from the command line, over backups as runs leave them: what it lists, what it finds wrong, what it removes and what never.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import { manifestHead, writeManifest } from '../../../lib/kubernetes/backups/manifest.ts'
import type { MachineReading } from '../../../lib/kubernetes/trust/machine.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { workbench } from '../_rekey.ts'

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
const day = 86_400_000

/** What `etcdctl snapshot save` leaves, as far as its form goes. */
function database(): Buffer {
  const pages = Buffer.alloc(4096, 7)
  pages.writeUInt32LE(0xed0cdaed, 16)
  return Buffer.concat([pages, createHash('sha256').update(pages).digest()])
}

const encryption = `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources: [secrets]
    providers:
      - aescbc: { keys: [{ name: key-1, secret: ${Buffer.alloc(32, 1).toString('base64')} }] }
      - identity: {}
`

const ca = issue({ name: 'CN=kubernetes', ca: true })
const leaf = ca.then(issuer => issue({ name: 'CN=kube-apiserver', issuer }))
const other = ca.then(issuer => issue({ name: 'CN=other', issuer }))

/** A workbench with one master, and runs of it that made backups. */
function scene() {
  const bench = workbench('local', ['m1'], true)
  const backups = (...words: string[]) => bench.rekey(['backups', '-i', bench.inventory, ...words])
  /** Makes the backup of a run, so many days ago. */
  const made = async (
    run: string,
    {
      days = 0,
      address = '127.0.0.1',
      key,
      etcd = true,
    }: { days?: number; address?: string; key?: string; etcd?: boolean } = {},
  ) => {
    const folder = join(bench.state, 'rekey', 'runs', run)
    mkdirSync(join(folder, 'backups', 'm1'), { recursive: true, mode: 0o700 })
    writeFileSync(join(folder, 'events.jsonl'), journal(run))
    const at = new Date(Date.now() - days * day).toISOString()
    const archive = join(folder, 'backups', 'm1', 'host.tgz')
    const files = {
      'etc/kubernetes/pki/apiserver.crt': (await leaf).pem,
      'etc/kubernetes/pki/apiserver.key': key ?? (await leaf).keyPem,
      'etc/kubernetes/encryption.yaml': encryption,
    }
    packed(archive, files)
    const named = (role: string, path: string, of?: string) => ({
      ...{ role, by: '--any', path, real: path, ...(of && { key: { path: of, real: of } }) },
    })
    const pki = '/etc/kubernetes/pki'
    const apiServer = {
      component: 'kube-apiserver',
      runs: { kind: 'static-pod', manifest: '/etc/kubernetes/manifests/kube-apiserver.yaml' },
      files: [
        named('serving', `${pki}/apiserver.crt`, `${pki}/apiserver.key`),
        named('encryption', '/etc/kubernetes/encryption.yaml'),
      ],
    }
    const reading = {
      ...{ host: 'm1', controlPlane: true, certificates: {}, kubeconfigs: {}, authority: (await ca).pem },
      layout: { host: 'm1', components: { 'kube-apiserver': apiServer } },
    } as unknown as MachineReading
    await writeManifest(folder, {
      ...{ ...manifestHead(run), at, kind: 'files', host: 'm1', address, machine: 'a', entries: 3, reading },
      ...{ sha256: sha256(readFileSync(archive)), size: statSync(archive).size },
    })
    const snapshot = join(folder, 'backups', 'm1', 'etcd.db')
    if (etcd) {
      writeFileSync(snapshot, database())
      await writeManifest(folder, {
        ...{ ...manifestHead(run), at, kind: 'etcd', host: 'm1', revision: 42, keys: 7, members: [] },
        ...{ sha256: sha256(database()), size: database().length, objects: { secrets: 7 } },
      })
    }
    return { folder, archive, snapshot }
  }
  return { bench, backups, made }
}

function packed(archive: string, files: Readonly<Record<string, string>>): void {
  const root = temporaryFolder('packed')
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  execFileSync('tar', ['-C', root, '-czf', archive, ...Object.keys(files)])
}

/** The first line of a journal is enough for whoever looks for runs. */
const journal = (run: string) =>
  `${JSON.stringify({
    ...{ kind: 'run.started', mode: 'run', run, folder: '/any', playbook: 'backup', summary: 'any', inventory: [] },
    ...{ operator: 'root', check: false, plays: [], selection: { forks: 1, extraVars: [] }, at: 1 },
    process: { machine: 'vm', pid: 1, started: '1', scope: 'none' },
  })}\n`

test.serial(
  'lists what each backup holds, and with which keys it can be read; those of other clusters are told',
  async t => {
    const { backups, made } = scene()
    await made('20260102-030405-backup-1a2b')
    await made('20260102-030406-backup-1a2c', { address: '10.0.0.9' })
    const { code, stdout, stderr } = await backups()
    t.is(code, 0, stderr)
    t.regex(stdout, /RUN .*MADE .*CA .*FILES OF .*ETCD .*TOKENS .*READ WITH\n/)
    t.regex(stdout, /20260102-030405-backup-1a2b .* m1 +revision 42, 4128 bytes +- +aescbc key-1\n/)
    t.notRegex(stdout, /1a2c/)
    t.regex(stderr, /1 more is of other clusters/)
    const json = await backups('--json')
    t.notRegex(json.stdout, /PRIVATE KEY|AQEBAQEB/)
    const [first] = (JSON.parse(json.stdout) as { backups: { etcd: { revision: number }; keys: string[] }[] }).backups
    t.deepEqual([first?.etcd.revision, first?.keys], [42, ['aescbc key-1']])
  },
)

test.serial('verify finds what is cut off, changed, gone, or does not fit, and exits with 2', async t => {
  const { backups, made } = scene()
  await made('20260102-030405-backup-good')
  const good = await backups('--verify')
  t.is(good.code, 0, good.stderr + good.stdout)
  t.regex(good.stdout, /✔ +20260102-030405-backup-good/)
  const cut = await made('20260102-030406-backup-cut')
  writeFileSync(cut.snapshot, database().subarray(0, 4000))
  const turned = await made('20260102-030407-backup-turned')
  const bytes = readFileSync(turned.archive)
  bytes[bytes.length >> 1]! ^= 0xff
  writeFileSync(turned.archive, bytes)
  await made('20260102-030408-backup-misfit', { key: (await other).keyPem })
  await made('20270102-030409-backup-ahead', { days: -1 })
  const { code, stdout } = await backups('--verify')
  t.is(code, 2)
  t.regex(stdout, /✖ .*-cut\/backups\/m1\/etcd\.db has 4000 bytes instead of 4128\n/)
  t.regex(stdout, /✖ .*-turned\/backups\/m1\/host\.tgz is not what was saved: its sha256 is another one\n/)
  t.regex(
    stdout,
    /✖ .*-misfit\/.*: \/etc\/kubernetes\/pki\/apiserver\.key is not the key of \/etc\/kubernetes\/pki\/apiserver\.crt\n/,
  )
  t.regex(stdout, /✖ 20270102-030409-backup-ahead was made on .*, which is in the future\n/)
  t.notRegex(stdout, /PRIVATE KEY/)
  const one = await backups('backup-good', '--verify')
  t.is(one.code, 0, one.stdout)
})

test.serial(
  'a snapshot that ends in another hash than its own, or is none of etcd, is found although its file is as it was saved',
  async t => {
    const { backups, made } = scene()
    const { folder, snapshot } = await made('20260102-030405-backup-1a2b')
    const saved = async (bytes: Buffer) => {
      writeFileSync(snapshot, bytes)
      await writeManifest(folder, {
        ...{ ...manifestHead('r'), kind: 'etcd', host: 'm1', revision: 42, keys: 7, members: [] },
        ...{ sha256: sha256(bytes), size: bytes.length },
      })
      return (await backups('--verify')).stdout
    }
    const damaged = database()
    damaged[100]! ^= 1
    t.regex(await saved(damaged), /is damaged: its own hash is another one/)
    t.regex(await saved(database().subarray(0, 4096)), /has no hash of itself at its end/)
    const none = Buffer.alloc(4096)
    t.regex(await saved(Buffer.concat([none, createHash('sha256').update(none).digest()])), /is no database of etcd/)
  },
)

test.serial('prune removes what is older, asks first, and keeps the last good one', async t => {
  const { backups, made } = scene()
  const oldest = await made('20260102-030405-backup-oldest', { days: 200 })
  const last = await made('20260102-030406-backup-last', { days: 100 })
  const damaged = await made('20260102-030407-backup-damaged', { days: 50 })
  writeFileSync(damaged.snapshot, 'none')
  const unasked = await backups('--prune', '90d')
  t.is(unasked.code, 1)
  t.regex(unasked.stderr, /Error: nothing was removed\nHint: .*--yes/)
  t.true(existsSync(oldest.archive))
  const { code, stdout, stderr } = await backups('--prune', '1d', '--yes')
  t.is(code, 0, stderr)
  t.regex(stdout, /backup-last stays: it is the last good one\n/)
  t.deepEqual(
    [oldest, last, damaged].map(({ archive, snapshot }) => [archive, snapshot].map(one => existsSync(one))),
    [
      [false, false],
      [true, true],
      [false, false],
    ],
  )
  // What the run did stays known.
  t.true(existsSync(join(oldest.folder, 'events.jsonl')))
  writeFileSync(last.snapshot, 'none')
  const none = await backups('--prune', '1d', '--yes')
  t.is(none.code, 1)
  t.regex(none.stderr, /none of the backups is good: nothing is removed/)
  t.true(existsSync(last.archive))
})

test.serial('a newer backup that is good, but of files alone, does not have the last snapshot removed', async t => {
  const { backups, made } = scene()
  const whole = await made('20260102-030405-backup-whole', { days: 100 })
  await made('20260102-030406-rescue-files', { days: 1, etcd: false })
  const { stdout } = await backups('--prune', '90d', '--yes')
  t.regex(stdout, /backup-whole stays/)
  t.true(existsSync(whole.snapshot))
})
