// Which pair a controller-manager is given of its own, where it signs with a file by which others are trusted, and that it is given none elsewhere.
import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { backUpFiles } from '../../../lib/operations/backup.ts'
import { publicKeyOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { plansOf } from '../../../lib/rotation/authorities.ts'
import { noneBehind } from '../../../lib/rotation/keysets/cluster/pods.ts'
import { keyIsKept, maySign, signWithNext } from '../../../lib/rotation/keysets/cluster/signing.ts'
import {
  ownPairOf,
  signApart,
  signTogether,
  togetherAgain,
} from '../../../lib/rotation/keysets/cluster/signing-apart.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { localSession } from '../../kubernetes/_local.ts'
import { startApiServer } from '../../kubernetes/api/_api-server.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

/** A run about the cluster's CA, and a controller-manager of m1 that is started with these flags. */
function contextWith(
  flags: Record<string, string>,
  trusted: readonly string[],
  held: readonly string[] = [],
  items: unknown[] = [],
) {
  const at = (path: string) => ({ path, real: path })
  const signing = Object.entries(flags).flatMap(([name, path]) => {
    const key = flags[name.replace('cert-file', 'key-file')]
    return name.endsWith('cert-file') && key ? [{ role: 'signing', by: `--${name}`, ...at(path), key: at(key) }] : []
  })
  const component = {
    component: 'kube-controller-manager',
    flags: Object.fromEntries(Object.entries(flags).map(([name, path]) => [name, [path]])),
    files: [{ role: 'root-ca', by: '--root-ca-file', ...at('/pki/ca.crt') }, ...signing],
  }
  const state = {
    ...{ name: 'kubernetes-ca', authority: 'kubernetes', items, uses: [], unread: [] },
    bundles: { m1: Object.fromEntries(trusted.map(path => [path, held])) },
  }
  const layout = { host: 'm1', components: { 'kube-controller-manager': component } }
  return {
    host: { name: 'm1' },
    registered: (step: string) => (step === lookStep ? [state] : { host: 'm1', layout }),
  } as never
}

test('who signs with the file of the CA gets the same pair beside it, whatever files are called', t => {
  const ours = contextWith(
    {
      'cluster-signing-cert-file': '/pki/ca.crt',
      'cluster-signing-key-file': '/pki/ca.key',
      'cluster-signing-kubelet-client-cert-file': '/pki/ca.crt',
      'cluster-signing-kubelet-client-key-file': '/pki/ca.key',
    },
    ['/pki/ca.crt'],
  )
  const own = ownPairOf(ours, 'm1')
  t.deepEqual(own?.flags, {
    'cluster-signing-cert-file': '/pki/ca-signing.crt',
    'cluster-signing-key-file': '/pki/ca-signing.key',
    'cluster-signing-kubelet-client-cert-file': '/pki/ca-signing.crt',
    'cluster-signing-kubelet-client-key-file': '/pki/ca-signing.key',
  })
  t.deepEqual(own?.from, { key: '/pki/ca.key' })
  t.deepEqual(own?.to, { certificate: '/pki/ca-signing.crt', key: '/pki/ca-signing.key' })
  const pem = contextWith(
    { 'cluster-signing-cert-file': '/ssl/ca.pem', 'cluster-signing-key-file': '/ssl/ca-key.pem' },
    ['/ssl/ca.pem'],
  )
  t.deepEqual(ownPairOf(pem, 'm1')?.to, { certificate: '/ssl/ca-signing.pem', key: '/ssl/ca-signing-key.pem' })
})

test('who signs with a file by which nobody is trusted keeps it, and so does who signs with none', t => {
  const apart = { 'cluster-signing-cert-file': '/pki/signer.crt', 'cluster-signing-key-file': '/pki/signer.key' }
  t.is(ownPairOf(contextWith(apart, ['/pki/ca.crt']), 'm1'), undefined)
  t.is(ownPairOf(contextWith({}, ['/pki/ca.crt']), 'm1'), undefined)
})

test('a pair that was given to it leads back to the file of the CA, where that holds it alone, and no other does', async t => {
  const [b, c] = await Promise.all(['b', 'c'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const items = [item(b!, 'primary'), item(c!, 'staged')]
  for (const [certificate, key, to] of [
    ['/pki/ca-signing.crt', '/pki/ca-signing.key', { certificate: '/pki/ca.crt', key: '/pki/ca.key' }],
    ['/ssl/ca-signing.pem', '/ssl/ca-signing-key.pem', { certificate: '/ssl/ca.pem', key: '/ssl/ca-key.pem' }],
  ] as const) {
    const holding = (...held: string[]) =>
      contextWith(
        { 'cluster-signing-cert-file': certificate, 'cluster-signing-key-file': key },
        [to.certificate],
        ...([held, items] as const),
      )
    for (const others of [[b!.pem, c!.pem], [c!.pem], []])
      t.is(togetherAgain(holding(...others), 'm1'), undefined, 'the next one is staged already')
    const ctx = holding(b!.pem)
    const back = togetherAgain(ctx, 'm1')
    t.deepEqual(back?.to, to)
    t.deepEqual(back?.flags, {
      'cluster-signing-cert-file': to.certificate,
      'cluster-signing-key-file': to.key,
    })
  }
  const other = {
    'cluster-signing-cert-file': '/pki/our-signing.crt',
    'cluster-signing-key-file': '/pki/our-signing.key',
  }
  t.is(togetherAgain(contextWith(other, ['/pki/ca.crt']), 'm1'), undefined)
})

const item = ({ pem }: { pem: string }, state: string, more = {}) => {
  const key = publicKeyOf(pem) ?? ''
  return { id: key.slice(0, 8), key, state, certificate: pem, ...more }
}

const keyset = (items: unknown[], files: Record<string, string[]> = {}) => ({
  ...{ name: 'kubernetes-ca', authority: 'kubernetes', uses: [], unread: [] },
  ...{ items, bundles: { m1: files } },
})

/** This machine as a master whose controller-manager has these flags and files, of a run that found a keyset. */
async function masterWith(folder: string, state: unknown, component: Record<string, unknown>, files = {}) {
  const session = await localSession()
  const host = { ...session.host, groups: ['masters'] }
  const vars = { backup_directory: join(folder, 'backups'), accept: [] }
  const layout = { host: 'm1', components: { 'kube-controller-manager': component } }
  const logged: string[] = []
  const registered = (step: string) =>
    step === lookStep ? [state] : { host: 'm1', layout, certificates: {}, kubeconfigs: {}, files }
  const ctx = {
    ...{ ...session, host, vars, run: 'run-1', mode: 'run', check: false, signal: new AbortController().signal },
    ...{ hosts: () => [host], on: async () => session, milestone: () => {}, redact: () => {} },
    ...{ log: (text: string) => void logged.push(text), registered },
  }
  await backUpFiles(session, join(vars.backup_directory, 'run-1', 'host.tgz'), [join(folder, 'pki')])
  return { ctx: ctx as never, logged, kept: join(vars.backup_directory, 'keysets', 'kubernetes-ca') }
}

test('without the new CA’s key a promotion does not begin, and one that came upon that is undone; with it the pair of the keyset is swapped, for whom it was', async t => {
  const [a, b, other] = await Promise.all(['a', 'b', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const folder = temporaryFolder('signing')
  const path = (name: string) => join(folder, 'pki', name)
  mkdirSync(path(''))
  writeFileSync(path('ca-signing.crt'), a!.pem)
  writeFileSync(path('ca-signing.key'), a!.keyPem, { mode: 0o640 })
  writeFileSync(path('legacy.crt'), other!.pem)
  writeFileSync(path('legacy.key'), other!.keyPem)
  const before = readdirSync(path('')).map(name => readFileSync(path(name), 'utf8'))
  const now = () => readdirSync(path('')).map(name => readFileSync(path(name), 'utf8'))
  const file = (name: string) => ({ path: path(name), real: path(name) })
  const files = ['ca-signing', 'legacy'].map(name => ({
    ...{ role: 'signing', by: '--cluster-signing-cert-file', ...file(`${name}.crt`), key: file(`${name}.key`) },
  }))
  const next = item(b!, 'staged', { issuer: 'b', kept: true })
  const state = keyset([item(a!, 'primary', { issuer: 'a' }), next])
  const component = { component: 'kube-controller-manager', flags: {}, files }
  const { ctx, kept } = await masterWith(folder, state, component, {
    [path('ca-signing.key')]: { real: path('ca-signing.key'), mode: 0o640, owner: 'root:2345' },
  })
  const missing = await t.throwsAsync<RekeyError>(async () => maySign.run(ctx))
  t.is(missing?.code, 'keysets.no-signing-key')
  await t.throwsAsync(async () => keyIsKept.run(ctx), { code: 'keysets.no-signing-key' }, 'nor is it staged again')
  await t.throwsAsync(async () => signWithNext.run(ctx), { code: 'keysets.no-signing-key' })
  await signWithNext.rollback?.(ctx)
  t.deepEqual(now(), before)

  mkdirSync(join(kept, next.id), { recursive: true })
  writeFileSync(join(kept, next.id, 'ca.key'), other!.keyPem)
  await t.throwsAsync(async () => maySign.run(ctx), { code: 'keysets.no-signing-key' }, 'of another CA')
  writeFileSync(join(kept, next.id, 'ca.key'), b!.keyPem)
  await maySign.run(ctx)
  await signWithNext.run(ctx)
  t.deepEqual(now(), [b!.pem, b!.keyPem, other!.pem, other!.keyPem])
  const { mode, gid } = statSync(path('ca-signing.key'))
  t.deepEqual([mode & 0o777, gid], [0o640, 2345])
  rmSync(kept, { recursive: true })
  await signWithNext.rollback?.(ctx)
  t.deepEqual(now(), before)

  const fresh = await masterWith(folder, keyset([item(a!, 'primary', { issuer: 'a' })]), component)
  const signing = (wanted: boolean) =>
    ({ ...(fresh.ctx as object), vars: { controller_manager_signs: wanted } }) as never
  await t.notThrowsAsync(async () => keyIsKept.run(signing(true)))
  await t.throwsAsync(async () => keyIsKept.run(signing(false)), { code: 'keysets.no-signing-key' })
  const planned = (signs: boolean) => ({
    ...{ vars: { pki_authorities: 'three', pki_mount: 'pki', controller_manager_signs: true }, run: '1-2-3' },
    registered: () => ({ specs: [], oldAuthorities: { kubernetes: a!.pem }, signs }),
  })
  for (const signs of [true, false]) t.is(plansOf(planned(signs) as never)[0]?.keyOnMasters, signs)

  const trusted = keyset([item(a!, 'primary', { issuer: 'a' }), next], { [path('ca-signing.crt')]: [a!.pem] })
  const shared = await masterWith(folder, trusted, component)
  await t.throwsAsync(async () => maySign.run(shared.ctx), { code: 'keysets.signs-with-trust' })
})

test('pods that were started once the new CA was published hold it, whether it is staged or promoted', async t => {
  const server = await startApiServer()
  t.teardown(() => server.close())
  const at = (minute: number) => new Date(Date.UTC(2026, 0, 1, 0, minute)).toISOString()
  const metadata = {
    ...{ name: 'kube-root-ca.crt', creationTimestamp: at(0) },
    // The promotion that rests has published it anew.
    managedFields: [{ time: at(600), fieldsV1: { 'f:data': { 'f:ca.crt': {} } } }],
  }
  server.put('/api/v1/namespaces/shop/configmaps', { metadata })
  const volumes = [{ name: 'v', projected: { sources: [{ configMap: { name: 'kube-root-ca.crt' } }] } }]
  const pod = (name: string, started: number) =>
    server.put('/api/v1/namespaces/shop/pods', {
      metadata: { name, creationTimestamp: at(started) },
      spec: { volumes, containers: [{ name: 'c', volumeMounts: [{ name: 'v' }] }] },
      status: { phase: 'Running', containerStatuses: [{ name: 'c', state: { running: { startedAt: at(started) } } }] },
    } as never)
  pod('restarted', 70)
  const [a, b] = await Promise.all(['a', 'b'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const folder = temporaryFolder('signing')
  mkdirSync(join(folder, 'pki'))
  writeFileSync(join(folder, 'pki', 'ca.crt'), a!.pem)
  const next = item(b!, 'staged', { issuer: 'b', kept: true })
  const states = [
    [item(a!, 'primary'), next],
    [{ ...next, state: 'primary' }, item(a!, 'trusted', { kept: true })],
  ].map(items => keyset(items, { '/ca.crt': [a!.pem, b!.pem] }))
  for (const state of states) {
    const { ctx, kept } = await masterWith(folder, state, {})
    mkdirSync(join(kept, next.id), { recursive: true })
    writeFileSync(join(kept, next.id, 'published-since'), `${Date.parse(at(65)) / 1_000}`)
    const asking = { ...(ctx as object), cluster: { api: async () => server.api } } as never
    await t.notThrowsAsync(async () => noneBehind.run(asking))
  }
  pod('older', 60)
  const { ctx } = await masterWith(folder, states[1], {})
  const asking = { ...(ctx as object), cluster: { api: async () => server.api } } as never
  const error = await t.throwsAsync<RekeyError>(async () => noneBehind.run(asking))
  t.is(error?.message, 'pods that hold the CAs of before: pod/shop/older')
})

/** A controller-manager as a process that does nothing, and its files in a folder. */
async function controllerIn(
  t: ExecutionContext,
  folder: string,
  named: string,
  running: string,
  authorities: [{ pem: string }, string][],
) {
  const path = (name: string) => join(folder, 'pki', name)
  const process = `kcm-of-${basename(folder)}`
  const words = (stem: string) => [`cert-file=${path(`${stem}.crt`)}`, `key-file=${path(`${stem}.key`)}`]
  const flagged = (stem: string) => words(stem).map(word => `--cluster-signing-${word}`)
  const manifest = join(folder, 'pki', 'kcm.yaml')
  writeFileSync(
    manifest,
    `kind: Pod\nmetadata:\n  name: ${process}\nspec:\n  containers:\n  - command:\n    - ${process}\n${flagged(named)
      .map(flag => `    - ${flag}\n`)
      .join('')}    name: ${process}\n`,
  )
  const child = spawn('sh', ['-c', 'read x', ...flagged(running)], {
    argv0: process,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  t.teardown(() => void child.kill())
  const file = (name: string) => ({ path: path(name), real: path(name) })
  const component = {
    ...{ component: process, runs: { kind: 'static-pod', manifest }, processes: [], endpoints: [], drift: [] },
    flags: Object.fromEntries(
      flagged(named).map(flag => [flag.slice(2, flag.indexOf('=')), [flag.slice(flag.indexOf('=') + 1)]]),
    ),
    files: [{ role: 'signing', by: '--cluster-signing-cert-file', ...file(`${named}.crt`), key: file(`${named}.key`) }],
  }
  const items = authorities.map(([one, state]) => item(one, state, { issuer: state }))
  const held = authorities.map(([{ pem }]) => pem)
  const { ctx, logged } = await masterWith(folder, keyset(items, { [path('ca.crt')]: held }), component)
  const cluster = { api: async () => ({ list: async () => [] }) }
  return { path, manifest, logged, ctx: { ...(ctx as object), cluster } as never }
}

test('at the end the pair apart is put in the place of the file of the CA; what is another one’s, or a killed run’s, is told apart', async t => {
  const [b, c, other] = await Promise.all(['b', 'c', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const put = (folder: string, files: Record<string, string>) => {
    mkdirSync(join(folder, 'pki'))
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, 'pki', name), text)
  }
  const names = (path: (name: string) => string) => readdirSync(path('')).filter(name => !name.endsWith('yaml'))
  const pair = { 'ca-signing.crt': b!.pem, 'ca-signing.key': b!.keyPem }

  const folder = temporaryFolder('together')
  put(folder, { ...pair, 'ca.crt': b!.pem })
  const once = await controllerIn(t, folder, 'ca-signing', 'ca', [[b!, 'primary']])
  await signTogether.run(once.ctx)
  t.deepEqual(names(once.path), ['ca.crt', 'ca.key'])
  t.is(readFileSync(once.path('ca.key'), 'utf8'), b!.keyPem)
  t.true(readFileSync(once.manifest, 'utf8').includes(`--cluster-signing-cert-file=${once.path('ca.crt')}`))

  // Cut off before it took the pair away.
  const cut = temporaryFolder('together')
  put(cut, { ...pair, 'ca.crt': b!.pem, 'ca.key': b!.keyPem })
  const rest = await controllerIn(t, cut, 'ca', 'ca', [[b!, 'primary']])
  t.true(signTogether.when?.(rest.ctx))
  await signTogether.run(rest.ctx)
  t.deepEqual(names(rest.path), ['ca.crt', 'ca.key'])

  const theirs = { 'ca-signing.crt': other!.pem, 'ca-signing.key': other!.keyPem, 'ca.crt': b!.pem }
  for (const [authorities, files] of [
    [[[b!, 'primary']], theirs],
    [
      [
        [b!, 'primary'],
        [c!, 'staged'],
      ],
      { ...pair, 'ca.crt': b!.pem + c!.pem },
    ],
  ] as [[{ pem: string }, string][], Record<string, string>][]) {
    const kept = temporaryFolder('together')
    put(kept, files)
    const left = await controllerIn(t, kept, 'ca-signing', 'ca-signing', authorities)
    await signTogether.run(left.ctx)
    t.deepEqual(names(left.path), Object.keys(files).toSorted())
    t.regex(left.logged.join(), /signs with \S+ca-signing\.crt still/)
  }

  // At the stage somebody's own files are left alone, too, and are there after the way back.
  const full = temporaryFolder('together')
  put(full, { ...theirs, 'ca.key': b!.keyPem })
  const stage = await controllerIn(t, full, 'ca', 'ca', [[b!, 'primary']])
  const error = await t.throwsAsync<RekeyError>(async () => signApart.run(stage.ctx))
  t.is(error?.code, 'keysets.changed')
  await signApart.rollback?.(stage.ctx)
  t.is(readFileSync(stage.path('ca-signing.key'), 'utf8'), other!.keyPem)
  t.deepEqual(names(stage.path), ['ca-signing.crt', 'ca-signing.key', 'ca.crt', 'ca.key'])
})
