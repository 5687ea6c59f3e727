// What the stages of a graceful rotation make of files, and what keeps them from beginning. Hosts are folders of this machine.
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { backUpFiles } from '../../lib/operations/backup.ts'
import { publicKeyOf } from '../../lib/pki/certificates/bundle-text.ts'
import { splitBundle } from '../../lib/pki/certificates/certificate.ts'
import { planStep } from '../../lib/rotation/given/found.ts'
import { bundles } from '../../lib/rotation/keysets/bundles.ts'
import { again, keepOld, noneForeign, stages } from '../../lib/rotation/keysets/index.ts'
import { stagedIn } from '../../lib/rotation/keysets/issuers.ts'
import { readCount } from '../../lib/rotation/keysets/leaves.ts'
import { byRole, type Item, type KeysetState, lookStep } from '../../lib/rotation/keysets/state.ts'
import { groupsOf } from '../../lib/rotation/keysets/which/chosen.ts'
import { temporaryFolder } from '../_temporary.ts'
import { localSession } from '../kubernetes/_local.ts'
import { issue } from '../pki/certificates/_certificates.ts'

let old: string
let next: string
let foreign: string

test.before(async () => {
  const made = ['old', 'next', 'foreign'].map(async name => (await issue({ name: `CN=${name}`, ca: true })).pem)
  ;[old = '', next = '', foreign = ''] = await Promise.all(made)
})

const item = (certificate: string, state: Item['state'], issuer?: string): Item => {
  const key = publicKeyOf(certificate) ?? ''
  return { id: key.slice(0, 8), key, state, certificate, ...(issuer !== undefined && { issuer }) }
}

const keyset = (more: Partial<KeysetState>): KeysetState => ({
  ...{ name: 'front-proxy-ca', authority: 'front-proxy', items: [], bundles: {}, uses: [], unread: [] },
  ...more,
})

/** A context of a step, of a run that found these keysets. */
const context = (states: KeysetState[], more: Record<string, unknown> = {}) =>
  ({
    vars: { accept: [], items: [] },
    registered: (step: string) => (step === lookStep ? states : undefined),
    ...{ log: () => {}, milestone: () => {}, check: false },
    ...more,
  }) as never

/** A folder as a host whose file of CAs holds `held`, with an archive of before. */
async function hostWith(
  held: string,
  wanted: (held: readonly string[]) => readonly string[],
  authorities = splitBundle(held),
) {
  const folder = temporaryFolder('keysets')
  mkdirSync(join(folder, 'pki'))
  const path = join(folder, 'pki', 'front-proxy-ca.crt')
  writeFileSync(path, held, { mode: 0o640 })
  const session = await localSession()
  const vars = { backup_directory: join(folder, 'backups'), accept: [], items: [] }
  await backUpFiles(session, join(vars.backup_directory, 'run-1', 'host.tgz'), [path])
  const state = keyset({ bundles: { m1: { [path]: authorities } } })
  const registered = (step: string) =>
    step === lookStep
      ? [state]
      : {
          ...{ host: 'm1', certificates: {}, kubeconfigs: {}, layout: { host: 'm1', components: {} } },
          files: { [path]: { real: path, mode: 0o640, owner: 'root:root' } },
        }
  const ctx = context([state], { ...session, vars, registered, run: 'run-1' })
  let proven = 0
  const step = bundles<never>(
    'trust',
    (_, __, now) => wanted(now),
    async () => {
      proven++
    },
  )
  return { path, folder: join(folder, 'pki'), ctx, step, proven: () => proven }
}

test('a file gets the new CA behind the old one, by a rename, and keeps its mode; undone it is what it was', async t => {
  const { path, folder, ctx, step, proven } = await hostWith(`# ours\n${old}`, held => [...held, next])
  const inode = statSync(path).ino
  await step.run(ctx)
  t.is(readFileSync(path, 'utf8'), old + next)
  t.not(statSync(path).ino, inode)
  t.is(statSync(path).mode & 0o777, 0o640)
  t.is(statSync(path).nlink, 1)
  await step.rollback?.(ctx)
  t.is(readFileSync(path, 'utf8'), `# ours\n${old}`)
  t.is(proven(), 1, 'that it was read again is proven')
  t.deepEqual(readdirSync(folder), ['front-proxy-ca.crt'])
})

test('a kubeconfig gets the new CA behind the old one in its place, and nothing else of it changes; undone it is what it was', async t => {
  const { cert, key } = { cert: (await issue({ name: 'CN=client' })).pem, key: 'a2V5' }
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const text = (ca: string) =>
    `clusters:\n- cluster:\n    certificate-authority-data: ${base64(ca)}\nusers:\n- user:\n    client-certificate-data: ${base64(cert)}\n    client-key-data: ${key}\n`
  const { path, ctx, step } = await hostWith(text(old), held => [...held, next], [old])
  await step.run(ctx)
  t.is(readFileSync(path, 'utf8'), text(old + next))
  t.is(statSync(path).mode & 0o777, 0o640)
  const inode = statSync(path).ino
  await step.run(ctx)
  t.is(statSync(path).ino, inode, 'it is not written twice')
  await step.rollback?.(ctx)
  t.is(readFileSync(path, 'utf8'), text(old))
  writeFileSync(path, text(foreign))
  const error = await t.throwsAsync<RekeyError>(async () => step.run(ctx))
  t.is(error?.code, 'keysets.changed')
})

test('what presents a certificate with its chain keeps that, and gets the new CA behind the old one; undone it is what it was', async t => {
  const leaf = (await issue({ name: 'CN=haproxy' })).pem
  const { path, ctx, step } = await hostWith(leaf + old, held => [...held, next], [old])
  await step.run(ctx)
  t.is(readFileSync(path, 'utf8'), leaf + old + next)
  await step.rollback?.(ctx)
  t.is(readFileSync(path, 'utf8'), leaf + old)
})

test('a kubeconfig that got another certificate since it was staged keeps that when the stage is undone: its CAs alone are put back', async t => {
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const text = (ca: string, cert: string) =>
    `clusters:\n- cluster:\n    certificate-authority-data: ${base64(ca)}\nusers:\n- user:\n    client-certificate-data: ${base64(cert)}\n    client-key-data: a2V5\n`
  const [cert, renewed] = [(await issue({ name: 'CN=client' })).pem, (await issue({ name: 'CN=client' })).pem]
  for (const cas of [old + next, old]) {
    const { path, folder, ctx, step } = await hostWith(text(old, cert), held => [...held, next], [old])
    const registered = await step.run(ctx)
    writeFileSync(path, text(cas, renewed))
    const { registered: before } = ctx as { registered: (id: string) => unknown }
    await step.rollback?.({
      ...(ctx as object),
      registered: (id: string) => (id === 'trust' ? registered : before(id)),
    } as never)
    t.is(readFileSync(path, 'utf8'), text(old, renewed))
    t.is(statSync(path).mode & 0o777, 0o640)
    t.deepEqual(readdirSync(folder), ['front-proxy-ca.crt'])
  }
})

test('done again after it was cut off, it changes nothing more', async t => {
  const { path, ctx, step } = await hostWith(old, held => [...held, next])
  await step.run(ctx)
  const inode = statSync(path).ino
  await step.run(ctx)
  t.is(statSync(path).ino, inode)
})

test('a file that somebody has changed since it was read is left alone, on the way there and back', async t => {
  const { path, ctx, step } = await hostWith(old, held => [...held, next])
  writeFileSync(path, old + foreign)
  const there = await t.throwsAsync<RekeyError>(async () => step.run(ctx))
  t.is(there?.code, 'keysets.changed')
  const back = await t.throwsAsync<RekeyError>(async () => step.rollback?.(ctx))
  t.is(back?.code, 'rollback.changed')
  t.is(readFileSync(path, 'utf8'), old + foreign)
})

test('an old CA that masters kept, and keep no more, is not put back: what was finished stays so', async t => {
  const { path, ctx: host } = await hostWith(next, held => held)
  const state = keyset({
    items: [item(next, 'primary'), { ...item(old, 'trusted'), kept: true }],
    bundles: { m1: { [path]: [old, next] } },
  })
  const session = await localSession()
  const { registered } = host as { registered: (step: string) => unknown }
  const ctx = {
    ...(host as object),
    registered: (step: string) => (step === lookStep ? [state] : registered(step)),
    ...{ hosts: () => [{ name: 'm1' }], on: async () => session },
  } as never
  const error = await t.throwsAsync<RekeyError>(async () => stages.distrust.rollback?.(ctx))
  t.is(error?.code, 'rollback.changed')
  t.regex(error?.hint ?? '', /finish-keysets/)
  t.is(readFileSync(path, 'utf8'), next)
})

test('a file with a second name is refused, and both names are said: whoever watches it would hear of nothing', async t => {
  const { path, ctx, step } = await hostWith(old, held => [...held, next])
  linkSync(path, `${path}.bak`)
  const error = await t.throwsAsync<RekeyError>(async () => step.run(ctx))
  t.is(error?.code, 'keysets.hard-link')
  t.true(error?.message.includes(`${path} ${path}.bak`), error?.message)
  t.is(readFileSync(path, 'utf8'), old)
})

test('no file is left without a CA', async t => {
  const { ctx, step } = await hostWith(old, () => [])
  const error = await t.throwsAsync<RekeyError>(async () => step.run(ctx))
  t.is(error?.code, 'keysets.empty')
  t.is(error?.host, 'm1')
  t.regex(error?.hint ?? '', /the same file of another host/)
})

test('a file that has the old CA alone keeps that from being distrusted, and is named, before any file is changed', t => {
  const bundles = {
    m1: { '/pki/ca.crt': [next, old] },
    n7: { '/etc/kubernetes/kubelet.conf': [old] },
    n8: { '/c': [foreign] },
  }
  const promoted = keyset({ items: [item(next, 'primary', 'i-2'), item(old, 'trusted')], bundles })
  const error = t.throws<RekeyError>(() => stages.noneHasTheOldAlone.run(context([promoted])))
  t.is(error?.code, 'keysets.behind')
  t.regex(error?.message ?? '', /not trusted everywhere: n7:\/etc\/kubernetes\/kubelet\.conf lacks it/)
  t.notThrows(() =>
    stages.noneHasTheOldAlone.run(context([{ ...promoted, bundles: { m1: bundles.m1, n8: bundles.n8 } }])),
  )
  const half = t.throws<RekeyError>(() => stages.noneBehind.run(context([promoted])))
  t.notRegex(half?.hint ?? '', /stage-keysets/, 'that would refuse: a rotation is not over')
})

test('roles that one CA serves are one keyset, those that were asked for; each of its roles is looked at by itself', t => {
  const shared = [['kubernetes', 'etcd']] as const
  t.deepEqual(groupsOf(['kubernetes', 'etcd', 'front-proxy'], shared), [['kubernetes', 'etcd'], ['front-proxy']])
  t.deepEqual(groupsOf(['front-proxy'], shared), [['front-proxy']])
  t.deepEqual(groupsOf(['kubernetes', 'etcd']), [['kubernetes'], ['etcd']])
  const roles = byRole(keyset({ name: 'kubernetes-ca', authority: 'kubernetes', authorities: ['kubernetes', 'etcd'] }))
  t.deepEqual(
    roles.map(({ name, authority }) => [name, authority]),
    [
      ['kubernetes-ca', 'kubernetes'],
      ['kubernetes-ca', 'etcd'],
    ],
  )
  t.deepEqual(
    byRole(keyset({})).map(({ authority }) => authority),
    ['front-proxy'],
  )
})

test('a second rotation is refused while one rests', t => {
  const resting = keyset({ items: [item(next, 'primary', 'i-2'), item(old, 'trusted')] })
  const error = t.throws<RekeyError>(() => stages.mayStage.run(context([resting])))
  t.is(error?.code, 'keysets.not-over')
  t.notThrows(() =>
    stages.mayStage.run(context([keyset({ items: [item(old, 'primary'), item(next, 'staged', 'i-2')] })])),
  )
})

test('a host whose file lacks the staged CA keeps it from being promoted, and is named', t => {
  const behind = keyset({
    items: [item(old, 'primary'), item(next, 'staged', 'i-2')],
    bundles: { m1: { '/pki/ca.crt': [old, next] }, m2: { '/pki/ca.crt': [old] } },
  })
  const error = t.throws<RekeyError>(() => stages.noneBehind.run(context([behind])))
  t.is(error?.code, 'keysets.behind')
  t.regex(error?.message ?? '', /is not staged everywhere: m2:\/pki\/ca\.crt lacks it/)
})

test('nothing is promoted where nothing is staged, or Vault lacks its key', t => {
  for (const items of [[item(old, 'primary')], [item(old, 'primary'), item(next, 'staged')]]) {
    const error = t.throws<RekeyError>(() => stages.noneBehind.run(context([keyset({ items })])))
    t.is(error?.code, 'keysets.nothing-staged')
  }
})

test('a promotion that was broken off is gone on with, though Vault issues from the new CA already', t => {
  const half = keyset({
    items: [item(next, 'primary', 'i-2'), item(old, 'trusted')],
    bundles: { m1: { '/pki/ca.crt': [old, next] } },
  })
  t.notThrows(() => stages.noneBehind.run(context([half])))
})

test('whoever has a certificate of the old CA keeps it from being distrusted, and is named, unless they are accepted', t => {
  const promoted = keyset({
    items: [item(next, 'primary', 'i-2'), item(old, 'trusted')],
    uses: [
      { where: 'm1:/pki/front-proxy-client.crt', key: publicKeyOf(next) ?? '' },
      { where: 'm2:/opt/proxy.crt', key: publicKeyOf(old) ?? '' },
    ],
  })
  const error = t.throws<RekeyError>(() => stages.nobodyNeedsTheOld.run(context([promoted])))
  t.is(error?.code, 'keysets.old-in-use')
  t.regex(error?.message ?? '', /would be refused: m2:\/opt\/proxy\.crt$/)
  t.regex(error?.hint ?? '', /accept: \[certificate\/m2:\/opt\/proxy\.crt\]/)
  const accepted = { vars: { accept: ['certificate/m2:*'] } }
  t.notThrows(() => stages.nobodyNeedsTheOld.run(context([promoted], accepted)))
})

test('a controller-manager that signs with the old CA keeps it from being distrusted, whoever leads', t => {
  const signs = (pem: string) => ({ where: 'm2:/pki/ca-signing.crt', key: publicKeyOf(pem) ?? '' })
  const promoted = (signers: KeysetState['signers']) =>
    keyset({ items: [item(next, 'primary', 'i-2'), item(old, 'trusted')], ...(signers && { signers }) })
  const asked = (signers: KeysetState['signers']) => () => stages.nobodyNeedsTheOld.run(context([promoted(signers)]))
  const error = t.throws<RekeyError>(asked([signs(next), signs(old)]))
  t.is(error?.code, 'keysets.other-signer')
  t.regex(error?.message ?? '', /: m2:\/pki\/ca-signing\.crt$/)
  t.notThrows(asked([signs(next)]))
  t.notThrows(asked(undefined), 'as a run of before has noted it')
})

test('nothing is distrusted where not everything could be read, unless that is accepted', t => {
  const promoted = keyset({
    items: [item(next, 'primary', 'i-2'), item(old, 'trusted')],
    unread: ['m2: not all certificates were read'],
  })
  const error = t.throws<RekeyError>(() => stages.nobodyNeedsTheOld.run(context([promoted])))
  t.is(error?.code, 'keysets.unread')
  t.notThrows(() => stages.nobodyNeedsTheOld.run(context([promoted], { vars: { accept: ['certificate/unread'] } })))
})

test('there must be an old one to distrust', t => {
  const error = t.throws<RekeyError>(() =>
    stages.nobodyNeedsTheOld.run(context([keyset({ items: [item(old, 'primary'), item(next, 'staged', 'i-2')] })])),
  )
  t.is(error?.code, 'keysets.nothing-to-distrust')
})

test('trusted again is what was distrusted last, or what is named', t => {
  const another = item(foreign, 'distrusted', 'of another cluster')
  const items = [item(next, 'primary', 'i-2'), another, { ...item(old, 'distrusted'), kept: true as const }]
  const chosen = (...ids: string[]) =>
    again.distrustedOf({ vars: { items: ids } } as never, keyset({ items })).map(({ certificate }) => certificate)
  t.deepEqual(chosen(), [old])
  t.deepEqual(chosen(another.id), [foreign])
  const others = [item(old, 'primary'), { ...item(next, 'distrusted'), kept: true as const }]
  t.deepEqual(chosen(items[2]?.id ?? '', items[0]?.id ?? ''), [old], 'what signs was not distrusted')
  const named = (...ids: string[]) => {
    const states = [keyset({ items }), keyset({ name: 'etcd-ca', authority: 'etcd', items: others })]
    return again.namedAreKnown.run(context(states, { vars: { items: ids } }))
  }
  t.notThrows(() => named(another.id), 'each id is of one keyset, and the others go by what was last')
  t.deepEqual(
    again.distrustedOf({ vars: { items: [another.id] } } as never, keyset({ items: others })).map(one => one.id),
    [others[1]?.id],
  )
  const error = t.throws<RekeyError>(() => named(another.id, '00000000'))
  t.is(error?.code, 'keysets.nothing-to-trust')
  t.regex(error?.message ?? '', /is called 00000000$/)
})

test('how often an API server has read its pair is told by its metrics, or not at all', t => {
  const metrics = [
    'workqueue_work_duration_seconds_count{name="DynamicCABundle-client-ca-bundle"} 3',
    'workqueue_work_duration_seconds_count{name="DynamicCABundle-aggregator-proxy-cert"} 12',
    'workqueue_retries_total{name="DynamicCABundle-aggregator-proxy-cert"} 1',
  ]
  t.is(readCount(metrics.join('\n')), 12)
  t.is(readCount(metrics[0] ?? ''), undefined)
})

test('a CA in Vault that is younger than the one that signs, and that no host knows, is neither staged nor promoted, and is named', t => {
  const items = [item(old, 'primary', 'i-1'), item(foreign, 'staged', 'i-9')]
  const planned = { specs: [], oldAuthorities: { 'front-proxy': old } }
  const asking = (state: KeysetState) =>
    context([state], {
      vars: { accept: [], items: [], pki_authorities: 'three', pki_mount: 'pki' },
      run: '20261129-080000-stage-keysets-0000',
      registered: (step: string) => (step === lookStep ? [state] : planned),
    })
  const error = t.throws<RekeyError>(() => noneForeign.run(asking(keyset({ items }))))
  t.is(error?.code, 'keysets.foreign-issuer')
  t.regex(error?.message ?? '', /pki_front_proxy in Vault .*: issuer i-9, /)
  t.is(stagedIn(keyset({ items })), undefined)
  const ours = { items, bundles: { m2: { '/pki/ca.crt': [old, foreign] } } }
  t.notThrows(() => noneForeign.run(asking(keyset(ours))))
  t.is(stagedIn(keyset(ours))?.issuer, 'i-9')
})

test('of keys beside the CAs those go that fit an old one and lie beside what a component names; undone they are there again', async t => {
  const [a, b] = await Promise.all(['a', 'b'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const folder = temporaryFolder('keysets')
  const path = (name: string) => join(folder, name)
  for (const name of ['pki', 'pki-2021']) mkdirSync(path(name))
  const keys = { 'pki/ca.key': a!.keyPem, 'pki/other.key': b!.keyPem, 'pki-2021/ca.key': a!.keyPem }
  for (const [name, text] of Object.entries(keys)) writeFileSync(path(name), text)
  const session = await localSession()
  const vars = { backup_directory: path('backups'), accept: [], items: [] }
  await backUpFiles(session, join(vars.backup_directory, 'run-1', 'host.tgz'), [path('pki')])
  const certificates = ['pki/ca.crt', 'pki/other.crt', 'pki-2021/ca.crt'].map(path)
  const state = keyset({
    items: [item(b!.pem, 'primary', 'i-2'), item(a!.pem, 'trusted')],
    bundles: { m1: Object.fromEntries(certificates.map(one => [one, [b!.pem, a!.pem]])) },
  })
  const files = certificates.slice(0, 2).map(one => ({ role: 'front-proxy-ca', path: one, real: one }))
  const layout = { host: 'm1', components: { 'kube-apiserver': { component: 'kube-apiserver', files } } }
  const registered = (step: string) => (step === lookStep ? [state] : { host: 'm1', layout })
  const ctx = context([state], { ...session, vars, registered, run: 'run-1', redact: () => {} })
  const there = () => Object.keys(keys).filter(name => existsSync(path(name)))
  t.false(await stages.oldKeysGone.check?.(ctx))
  await stages.oldKeysGone.run(ctx)
  t.deepEqual(there(), ['pki/other.key', 'pki-2021/ca.key'])
  t.true(await stages.oldKeysGone.check?.(ctx))
  await stages.oldKeysGone.rollback?.(ctx)
  t.deepEqual(there(), Object.keys(keys))
})

test('what a CA has signed is kept when another follows it, though its key was kept when it was new', async t => {
  const [b, c] = await Promise.all(['b', 'c'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const folder = temporaryFolder('keysets')
  const path = (name: string) => join(folder, name)
  const leaf = await issue({ name: 'CN=client', issuer: b! })
  writeFileSync(path('client.crt'), leaf.pem)
  writeFileSync(path('client.key'), leaf.keyPem)
  const session = await localSession()
  const signing = { ...item(b!.pem, 'primary', 'i-2'), kept: true as const }
  const state = keyset({
    items: [signing, { ...item(c!.pem, 'staged', 'i-3'), kept: true }],
    uses: [{ where: `m1:${path('client.crt')}`, host: 'm1', key: signing.key }],
    bundles: { m1: {} },
  })
  const kept = path(`keysets/front-proxy-ca/${signing.id}`)
  mkdirSync(kept, { recursive: true })
  for (const [name, text] of [
    ['ca.crt', b!.pem],
    ['ca.key', b!.keyPem],
  ] as const)
    writeFileSync(join(kept, name), text)
  const place = { kind: 'pair', certificate: path('client.crt'), key: path('client.key') }
  const planned = { specs: [{ id: 'client', authority: 'front-proxy', hosts: ['m1'], place }], oldAuthorities: {} }
  const layout = { host: 'm1', components: {} }
  const ctx = context([state], {
    ...{ ...session, host: { ...session.host, groups: ['masters'] }, vars: { backup_directory: folder } },
    redact: () => {},
    registered: (step: string) =>
      step === lookStep ? [state] : step === planStep ? planned : { host: 'm1', layout, files: {} },
  })
  t.false(await keepOld.check?.(ctx))
  await keepOld.run(ctx)
  t.deepEqual(readdirSync(kept), ['ca.crt', 'ca.key', 'client.crt', 'client.key'])
  t.true(await keepOld.check?.(ctx))
})
