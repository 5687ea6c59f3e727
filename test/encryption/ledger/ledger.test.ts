// Which key something that is kept needs, and a key that nothing needs destroyed: looked at on a host as it is, in files, archives and snapshots.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { secret } from '../../../lib/connection/shell.ts'
import { isOfHosts } from '../../../lib/encryption/ledger/backups.ts'
import { type Context, destroy, report, unneeded, unused, variables } from '../../../lib/encryption/ledger/destroy.ts'
import { filesWith, keptSnapshots, noteNeeds } from '../../../lib/encryption/ledger/kept.ts'
import { manifestHead, writeManifest } from '../../../lib/kubernetes/backups/manifest.ts'
import { destroySecretsIn, openRegistered } from '../../../lib/run/registered/registered.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { found, localHost, unit } from '../../kubernetes/components/_host.ts'
import { base64Key, configuration } from '../_configuration.ts'
import { gatewayOf } from '../_gateway.ts'

const providers = (name: string, key: string) =>
  `      - aescbc:\n          keys:\n            - name: ${name}\n              secret: ${key}\n      - identity: {}\n`
const fileWith = (name: string, key: string) => configuration('secrets', providers(name, key))
const under = (name: string) => Buffer.from(`k8s:enc:aescbc:v1:${name}:0123456789abcdef`)

/** A master that has rotated from `old` to `new`: what the run kept there, and what is in force. */
async function rotated(
  t: ExecutionContext,
  stored: Readonly<Record<string, Uint8Array>> = {},
  vars: Partial<Context['vars']> = {},
) {
  const { session, folder } = await localHost(t)
  const [old, now] = [base64Key(), base64Key()]
  const file = join(folder, 'encryption.yaml')
  writeFileSync(file, fileWith('new', now))
  const backups = join(folder, 'backups')
  const run = join(backups, '20260101-000000-rotate-encryption-key-aaaa')
  mkdirSync(run, { recursive: true })
  writeFileSync(join(run, 'encryption-configuration'), fileWith('old', old))
  const gateway = await gatewayOf(t, new Map(Object.entries(stored)))
  const listens = [`http://127.0.0.1:${gateway.access.client.port}`]
  const components = {
    'kube-apiserver': found({
      ...{ component: 'kube-apiserver', runs: unit('kube-apiserver') },
      files: [{ role: 'encryption', by: '', path: file, real: file }],
    }),
    etcd: found({ component: 'etcd', runs: unit('etcd'), flags: { 'listen-client-urls': listens } }),
  }
  const destroyed: boolean[] = []
  const ctx = {
    ...session,
    vars: { destroy_key: 'aescbc old', backup_directory: backups, ...vars },
    signal: new AbortController().signal,
    hosts: () => [session.host],
    on: async () => session,
    log: () => {},
    registered: (step: string) =>
      step === 'read-encryption' ? { layout: { host: 'm1', components }, file } : undefined,
    otherRuns: () => [],
    destroySecrets: (isMeant: Parameters<Context['destroySecrets']>[0]) => {
      destroyed.push(isMeant(old), isMeant(now))
      return ['r']
    },
  } as unknown as Context
  return { ctx, session, run, backups, old, now, destroyed }
}

const refusedBy = async (t: ExecutionContext, { run }: typeof unused, ctx: Context, code: string) => {
  const error = await t.throwsAsync(async () => run(ctx))
  t.like(error, { code: `encryption.${code}` })
  return error!.message
}

test('a key that an API server has, or a value lies under, is in use', async t => {
  const has = await rotated(t, {}, { destroy_key: 'aescbc new' })
  t.regex(await refusedBy(t, unused, has.ctx, 'key-in-use'), /^the API server of \S+ has aescbc new still/)
  const values = { '/registry/secrets/a/one': under('new'), '/registry/secrets/a/two': under('old') }
  const left = await rotated(t, values)
  t.is(
    await refusedBy(t, unused, left.ctx, 'key-in-use'),
    '1 values lie under aescbc old, such as /registry/secrets/a/two',
  )
  const { ctx } = await rotated(t, { '/registry/secrets/a/one': under('new') })
  t.like(await unused.run(ctx), { values: 1 })
})

test('a snapshot needs the keys that are noted beside it; of one without a note its bytes say it', async t => {
  const { ctx, session, run, backups } = await rotated(t)
  const [before, after, other] = ['etcd-before.db', 'etcd-after.db', 'etcd.db'].map(name => join(run, name)) as [
    string,
    string,
    string,
  ]
  writeFileSync(before, Buffer.alloc(10))
  await noteNeeds(session, before, [{ name: 'aescbc old' }])
  // The past that etcd has not forgotten yet is no need.
  writeFileSync(after, under('old'))
  await noteNeeds(session, after, [{ name: 'aescbc new' }])
  writeFileSync(other, under('old'))
  t.deepEqual(
    (await keptSnapshots(session, backups)).sort((a, b) => (a.path < b.path ? -1 : 1)),
    [
      { path: after, needs: [{ name: 'aescbc new' }] },
      { path: before, needs: [{ name: 'aescbc old' }] },
      { path: other },
    ],
  )
  const message = await refusedBy(t, unneeded, ctx, 'key-needed')
  t.true(message.includes(before) && message.includes(other) && !message.includes(after), message)
  writeFileSync(other, under('older'))
  writeFileSync(before.replace('.db', '.keys'), '{"format":1,"needs":[]}')
  await unneeded.run(ctx)
  // A note that others could have written elsewhere is none, and neither is one that is no note.
  writeFileSync(before, under('old'))
  writeFileSync(join(backups, 'note'), '{"format":1,"needs":[]}')
  execFileSync('rm', [before.replace('.db', '.keys')])
  symlinkSync(join(backups, 'note'), before.replace('.db', '.keys'))
  await refusedBy(t, unneeded, ctx, 'key-needed')
  t.deepEqual(await keptSnapshots(session, join(backups, 'none')), [])
})

test('of a KMS plugin that stays it is the id of the key that counts', async t => {
  const { ctx, session, run } = await rotated(t, {}, { destroy_key: 'kms v2 vault', destroy_key_id: 'transit/a:1' })
  const snapshot = join(run, 'etcd-before.db')
  writeFileSync(snapshot, 'k8s:enc:kms:v2:vault: transit/a:2')
  await unneeded.run(ctx)
  await noteNeeds(session, snapshot, [{ name: 'kms v2 vault', keyId: 'transit/a:2' }])
  await unneeded.run(ctx)
  await noteNeeds(session, snapshot, [{ name: 'kms v2 vault' }])
  await refusedBy(t, unneeded, ctx, 'key-needed')
  t.false(await destroy.when!(ctx))
  t.regex(JSON.stringify(report({ ...ctx, registered: () => undefined })), /min_decryption_version/)
})

test('backups on this machine count: by the files of then, and of a plugin by what is in the snapshot', async t => {
  const runs = temporaryFolder('runs')
  const snapshot = join(runs, 'backups', 'm1', 'etcd.db')
  mkdirSync(join(runs, 'backups', 'm1'), { recursive: true })
  // Where a file is read in pieces, what is looked for lies across the end of one, but for its last byte.
  writeFileSync(snapshot, `${'x'.repeat(64 * 1024 - 20)}k8s:enc:kms:v2:vault: transit/a:2`)
  const sizes = { sha256: '0'.repeat(64), size: 1, revision: 1, keys: 1, members: [] }
  await writeManifest(runs, { ...manifestHead('r'), kind: 'etcd', host: 'm1', ...sizes })
  const of = async (destroy_key_id: string) => {
    const { ctx, session } = await rotated(t, {}, { destroy_key: 'kms v2 vault', destroy_key_id })
    const hosts = () => [{ ...session.host, name: 'm1', connection: { address: '127.0.0.1' } }]
    return { ...ctx, hosts, otherRuns: () => [runs] } as unknown as Context
  }
  t.regex(await refusedBy(t, unneeded, await of('transit/a:2'), 'key-needed'), /on this machine$/)
  await unneeded.run(await of('transit/a:1'))
})

test('a backup is of hosts of these names at these addresses; one of etcd alone says no address', t => {
  const hosts = [{ name: 'm1', connection: { address: '10.0.0.1' } }] as unknown as Parameters<typeof isOfHosts>[1]
  const of = (backup: object) =>
    isOfHosts({ files: [], ...backup } as unknown as Parameters<typeof isOfHosts>[0], hosts)
  t.true(of({ files: [{ host: 'm1', address: '10.0.0.1' }] }))
  t.false(of({ files: [{ host: 'm1', address: '10.9.0.1' }] }))
  t.false(of({ files: [{ host: 'm2', address: '10.0.0.1' }], snapshot: { host: 'm1' } }))
  t.true(of({ snapshot: { host: 'm1' } }))
  t.false(of({ snapshot: { host: 'm2' } }))
  t.false(of({}))
})

test('an archive that has the key is found whatever it is called in there, and nothing is destroyed', async t => {
  const { ctx, session, run, backups, old } = await rotated(t)
  writeFileSync(join(run, 'copied'), `x\n  secret: ${old}\n`)
  execFileSync('tar', ['-czf', join(run, 'host.tgz'), '-C', run, 'copied'])
  execFileSync('rm', [join(run, 'copied')])
  t.deepEqual(await filesWith(session, backups, secret(old)), [
    join(run, 'encryption-configuration'),
    join(run, 'host.tgz'),
  ])
  t.regex(await refusedBy(t, unneeded, ctx, 'key-needed'), /host\.tgz/)
  // Also by itself: whatever the command line leaves out.
  t.regex(await refusedBy(t, destroy, ctx, 'key-needed'), /host\.tgz/)
  t.true(existsSync(join(run, 'encryption-configuration')))
})

test('a key in use is not destroyed, whatever the command line leaves out', async t => {
  const { ctx, run, destroyed } = await rotated(t, { '/registry/secrets/a/two': under('old') })
  await refusedBy(t, destroy, ctx, 'key-in-use')
  t.true(existsSync(join(run, 'encryption-configuration')))
  t.deepEqual(destroyed, [])
})

test('what lies behind a link, and what can not be read, counts as well', async t => {
  const { ctx, session, run, backups, old } = await rotated(t)
  const link = `${backups}-link`
  symlinkSync(backups, link)
  t.deepEqual(await filesWith(session, link, secret(old)), [
    `${link}/20260101-000000-rotate-encryption-key-aaaa/encryption-configuration`,
  ])
  writeFileSync(join(run, 'etcd.db'), 'x')
  t.is((await keptSnapshots(session, link)).length, 1)
  execFileSync('rm', [join(run, 'etcd.db')])
  writeFileSync(join(run, 'host.tgz'), 'no archive')
  const error = await t.throwsAsync(async () => unneeded.run(ctx))
  t.like(error, { code: 'encryption.not-looked-through' })
  t.regex(error!.message, /host\.tgz is no whole archive/)
})

test('a backup on this machine of hosts of these names that does not say what it holds is in the way', async t => {
  const { ctx } = await rotated(t)
  const runs = temporaryFolder('runs')
  mkdirSync(join(runs, 'backups', 'm1'), { recursive: true })
  writeFileSync(join(runs, 'backups', 'm1', 'host.tgz'), 'x')
  const of = (name: string) =>
    ({ ...ctx, hosts: () => [{ ...ctx.hosts('masters')[0], name }], otherRuns: () => [runs] }) as unknown as Context
  t.regex(await refusedBy(t, unneeded, of('m1'), 'key-needed'), /does not say/)
  await unneeded.run(of('another'))
})

test('a key is destroyed where rotations kept it, in the folders of runs too, and what has another key stays', async t => {
  const { ctx, run, backups, now, destroyed } = await rotated(t)
  const later = join(backups, '20260102-000000-rotate-encryption-key-bbbb')
  mkdirSync(later)
  writeFileSync(join(later, 'encryption-configuration'), fileWith('new', now))
  await unneeded.run(ctx)
  t.like(await destroy.run(ctx), { runs: ['r'], files: { length: 1 } })
  t.false(existsSync(join(run, 'encryption-configuration')))
  t.true(existsSync(join(later, 'encryption-configuration')))
  t.deepEqual(destroyed, [true, false])
  // Gone on with after a kill, there is nothing left to do.
  t.like(await destroy.run(ctx), { files: [] })
})

test('of secrets in the folder of a run those that are meant are destroyed, and whoever asks for one is told', async t => {
  const folder = temporaryFolder('registered')
  const options = { isSecret: () => false }
  const before = openRegistered(folder, options)
  const [old, other] = [base64Key(), base64Key()]
  await before.save('make-the-key', 'm1', { secret: secret(old) })
  await before.save('make-another', 'm1', { secret: secret(other) })
  before.close()
  t.is(
    destroySecretsIn(folder, text => text === old),
    1,
  )
  t.is(
    destroySecretsIn(folder, text => text === old),
    0,
  )
  const secrets = join(folder, 'secrets')
  t.false(readdirSync(secrets).some(name => readFileSync(join(secrets, name), 'utf8').includes(old)))
  const after = openRegistered(folder, options)
  t.like(after.missing, { code: 'run.secret-destroyed' })
  t.throws(() => after.get('make-the-key', 'm1'))
  t.is((after.get('make-another', 'm1') as { secret: { reveal(): string } }).secret.reveal(), other)
  after.close()
  t.is(
    destroySecretsIn(temporaryFolder('none'), () => true),
    0,
  )
})

test('a key is named as `rekey encryption` does', t => {
  const named = (text: string) => variables.destroy_key.safeParse(text).success
  t.true(['aescbc key-1', 'secretbox a b', 'kms v2 vault', 'aescbc k:2022-08-02T16:02:40Z'].every(named))
  t.false(['key-1', 'identity', 'kms vault', 'aescbc ', 'aescbc a\nb'].some(named))
})
