// `rekey backups` from the command line, over backups as runs leave them: what it lists, what it finds wrong, what it removes and what never.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { manifestHead, writeManifest } from '../../../lib/kubernetes/backups/manifest.ts'
import { database, other, scene, sha256 } from './_backups.ts'

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

test.serial('what a run that stopped in the middle may need to go on, or back, stays', async t => {
  const { backups, made } = scene()
  const stopped = await made('20260102-030405-rotate-stopped', { days: 100, outcome: 'failed' })
  await made('20260102-030406-backup-last')
  const { stdout } = await backups('--prune', '1d', '--yes')
  t.regex(stdout, /rotate-stopped stays: its run \(failed\) may need it to go on, or back/)
  t.true(existsSync(stopped.archive))
})
