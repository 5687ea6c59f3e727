// Which servers a stage asks: those that knew clients of the keyset before. They are servers of this process.
import { strict as assert } from 'node:assert'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import type { HostSession } from '../../lib/playbook/model.ts'
import { conditionsStep, planStep, readingStep } from '../../lib/rotation/given/found.ts'
import {
  acceptedEverywhere,
  noteUnknowing,
  refusedEverywhere,
  startUnknowingAnew,
} from '../../lib/rotation/keysets/gates.ts'
import { swapRestarts } from '../../lib/rotation/keysets/leaves.ts'
import type { KeysetState } from '../../lib/rotation/keysets/state.ts'
import { look, lookStep } from '../../lib/rotation/keysets/state.ts'
import { temporaryFolder } from '../_temporary.ts'
import { localSession } from '../kubernetes/_local.ts'
import { found, localHost, unit } from '../kubernetes/components/_host.ts'
import { listener, refusal } from '../kubernetes/probes/_server.ts'
import { issue } from '../pki/certificates/_certificates.ts'

const state: KeysetState = {
  name: 'front-proxy-ca',
  authority: 'front-proxy',
  items: [],
  bundles: {},
  uses: [],
  unread: [],
}

/** A cluster of one master, whose API server and scheduler listen at these ports, with the pair that API servers show. */
async function masterWith(
  ports: { readonly 'kube-apiserver': number; readonly 'kube-scheduler': number },
  pair: { pem: string; keyPem: string },
) {
  const folder = temporaryFolder('keyset-gates')
  const place = { kind: 'pair', certificate: join(folder, 'client.crt'), key: join(folder, 'client.key') }
  writeFileSync(place.certificate, pair.pem)
  writeFileSync(place.key, pair.keyPem)
  const components = Object.fromEntries(
    Object.entries(ports).map(([component, port]) => [
      component,
      {
        component,
        flags: {},
        files: component === 'kube-apiserver' ? [{ role: 'front-proxy-ca' }] : [],
        endpoints: [{ address: '127.0.0.1', port, role: 'serving' }],
      },
    ]),
  )
  const registered = new Map<string, unknown>([
    [lookStep, [state]],
    [readingStep, { host: 'm1', certificates: {}, kubeconfigs: {}, layout: { host: 'm1', components } }],
    [
      planStep,
      { specs: [{ id: 'front-proxy-client', authority: 'front-proxy', hosts: ['m1'], usages: ['clientAuth'], place }] },
    ],
  ])
  const said: string[] = []
  const session = {
    ...(await localSession()),
    host: { name: 'm1' },
    forward: async (_: string, port: number) => connect(port, '127.0.0.1'),
  }
  const ctx = {
    ...session,
    ...{
      vars: {},
      signal: new AbortController().signal,
      redact: () => {},
      log: (line: string) => said.push(line),
      hosts: () => [{ name: 'm1' }],
    },
    registered: (step: string) => registered.get(step),
    on: async () => session,
    cluster: { api: async () => ({ each: async function* () {} }) },
  } as never
  return { ctx, registered, said }
}

const visitorOf = ({ pem, keyPem }: { pem: string; keyPem: string }) => ({
  credential: { certificate: pem, key: keyPem },
  user: 'rekey-probe',
  headers: { 'X-Remote-User': 'rekey-probe' },
})

test('a scheduler that knows nobody before need not afterwards, and is told; an API server that knows nobody stops the run', async t => {
  const authority = await issue({ name: 'CN=front-proxy-ca', ca: true })
  const pair = await issue({ name: 'CN=front-proxy-client', issuer: authority })
  const [knows, other] = await Promise.all([listener(authority), issue({ name: 'CN=other', ca: true }).then(listener)])
  const [server, scheduler] = [await knows(refusal), await other(refusal)]
  const { ctx, registered, said } = await masterWith(
    { 'kube-apiserver': server.port, 'kube-scheduler': scheduler.port },
    pair,
  )
  const unknowing = await noteUnknowing.run(ctx)
  t.deepEqual(unknowing, [{ where: 'kube-scheduler of m1' }])
  t.regex(said.join('\n'), /^kube-scheduler of m1 knows no client of front-proxy-ca now, and is not asked afterwards/)

  registered.set(noteUnknowing.id ?? '', unknowing)
  const before = server.seen.length
  await acceptedEverywhere(ctx, async () => [visitorOf(pair)])
  t.is(said.at(-1), 'asked: kube-apiserver of m1')
  t.true(server.seen.length > before)

  const turned = await masterWith({ 'kube-apiserver': scheduler.port, 'kube-scheduler': server.port }, pair)
  const error = await t.throwsAsync<RekeyError>(async () => noteUnknowing.run(turned.ctx))
  t.is(error?.code, 'keysets.not-let-in')
  for (const { close } of [server, scheduler]) close()
})

test('a server that is away for a moment is waited for', async t => {
  const authority = await issue({ name: 'CN=front-proxy-ca', ca: true })
  const pair = await issue({ name: 'CN=front-proxy-client', issuer: authority })
  const server = await (await listener(authority))(refusal)
  t.teardown(server.close)
  const { ctx } = await masterWith({ 'kube-apiserver': server.port, 'kube-scheduler': server.port }, pair)
  let away = 6
  const on = async () => ({
    ...(ctx as HostSession),
    forward: async () => connect(away-- > 0 ? 1 : server.port, '127.0.0.1'),
  })
  t.deepEqual(await noteUnknowing.run({ ...(ctx as object), on } as never), [])
})

test('a scheduler that has come to know nobody is started anew, once; one that knew nobody before is not', async t => {
  const authority = await issue({ name: 'CN=front-proxy-ca', ca: true })
  const pair = await issue({ name: 'CN=front-proxy-client', issuer: authority })
  const { session, folder } = await localHost(t)
  const told = join(folder, 'told')
  const restarts = () => (existsSync(told) ? readFileSync(told, 'utf8').match(/^restart /gm)?.length : undefined) ?? 0
  const make = await listener(authority)
  const scheduler = await make(user => (restarts() > 0 ? refusal(user) : [401, 'Unauthorized']), [200, 'ok'])
  t.teardown(scheduler.close)
  const { ctx, registered, said } = await masterWith(
    { 'kube-apiserver': scheduler.port, 'kube-scheduler': scheduler.port },
    pair,
  )
  const component = found({
    ...{ component: 'kube-scheduler', runs: unit('kube-scheduler') },
    endpoints: [{ address: '127.0.0.1', port: scheduler.port, role: 'serving' }] as never,
  })
  registered.set(readingStep, { host: 'm1', layout: { host: 'm1', components: { 'kube-scheduler': component } } })
  const asked = { ...(ctx as object), on: async () => ({ ...session, host: { name: 'm1' } }) } as never
  await session.$`systemctl restart kube-scheduler.service`
  writeFileSync(told, '')

  registered.set(noteUnknowing.id ?? '', ['kube-scheduler of m1'])
  await startUnknowingAnew(asked, 1)
  t.is(restarts(), 0)
  registered.set(noteUnknowing.id ?? '', [])
  await startUnknowingAnew(asked, 1)
  t.is(restarts(), 1)
  t.regex(said.join('\n'), /kube-scheduler of m1 knows no client of front-proxy-ca any more, and is started anew/)
  await startUnknowingAnew(asked)
  t.is(restarts(), 1)
})

test('each stage of a run comes to the API with what the administrator has then', async t => {
  const occasions: string[] = []
  const looking = (run: string) => {
    const cluster = { forget: (occasion: string) => occasions.push(occasion) }
    return { run, cluster, hosts: () => assert.fail('forgotten before anybody is asked') } as never
  }
  for (const run of ['a', 'a-promote', 'a-distrust']) await t.throwsAsync(async () => look.run(looking(run)))
  t.is(new Set(occasions).size, 3)
})

test('what comes once a promotion is undone comes to the API with the administrator who is back', async t => {
  const occasions: string[] = []
  const cluster = { forget: (occasion: string) => occasions.push(occasion) }
  const refusing = { hosts: () => assert.fail('forgotten before anybody is asked'), registered: () => undefined }
  await t.throwsAsync(async () => swapRestarts.undone.rollback?.({ run: 'a-promote', cluster, ...refusing } as never), {
    message: /before anybody is asked/,
  })
  t.is(occasions.length, 1)
  t.false(occasions.includes('a-promote has begun'), 'or it would be the first stage’s, and forgotten already')
})

test('of the cluster’s own CA kubelets are asked, too, by somebody who is what his certificate says, and speaks for nobody', async t => {
  const authority = await issue({ name: 'CN=kubernetes', ca: true })
  const { pem, keyPem } = await issue({ name: 'CN=system:kube-controller-manager', issuer: authority })
  const make = await listener(authority)
  const user = 'system:kube-controller-manager'
  const asked: string[] = []
  const server = await make(said => {
    asked.push(said)
    return refusal(user)
  })
  t.teardown(server.close)
  const folder = temporaryFolder('keyset-gates')
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  const path = join(folder, 'controller-manager.conf')
  writeFileSync(
    path,
    `apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: https://x}}]\nusers: [{name: u, user: {client-certificate-data: ${base64(pem)}, client-key-data: ${base64(keyPem)}}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x\n`,
  )
  const { ctx, registered, said } = await masterWith(
    { 'kube-apiserver': server.port, 'kube-scheduler': server.port },
    { pem, keyPem },
  )
  const kubelet = {
    ...{ component: 'kubelet', flags: {}, files: [{ role: 'client-ca' }] },
    endpoints: [{ address: '127.0.0.1', port: server.port, role: 'serving' }],
  }
  registered.set(lookStep, [{ ...state, name: 'kubernetes-ca', authority: 'kubernetes' }])
  registered.set(readingStep, { host: 'm1', layout: { host: 'm1', components: { kubelet } } })
  const client = { id: 'kubeconfig', authority: 'kubernetes', hosts: ['m1'], usages: ['clientAuth'] }
  registered.set(planStep, {
    specs: [
      {
        ...client,
        commonName: 'admin',
        organizations: ['system:masters'],
        place: { kind: 'kubeconfig', path: '/none' },
      },
      { ...client, commonName: user, organizations: [], place: { kind: 'kubeconfig', path } },
    ],
  })
  t.deepEqual(await noteUnknowing.run(ctx), [])
  t.deepEqual(asked, ['undefined'], 'it says for nobody that it speaks for him')
  await acceptedEverywhere(ctx, async () => [{ credential: { certificate: pem, key: keyPem }, user }])
  t.is(said.at(-1), 'asked: kubelet of m1')

  registered.set(readingStep, { host: 'm1', nodeName: 'm1', layout: { host: 'm1', components: { kubelet } } })
  registered.set(conditionsStep, { absent: ['m1'] })
  const lines = said.length
  await acceptedEverywhere(ctx, async () => [{ credential: { certificate: pem, key: keyPem }, user }])
  t.is(said.length, lines, 'that of a node that was accepted as away is not asked')
})

test('where one CA serves the API and etcd, members are asked, too: by a client of the API that may do nothing there, since none is of etcd alone', async t => {
  const authority = await issue({ name: 'CN=CA', ca: true })
  const user = 'system:kube-controller-manager'
  const { pem, keyPem } = await issue({ name: `CN=${user}`, issuer: authority })
  const make = await listener(authority)
  const [server, member] = await Promise.all([make(() => refusal(user)), make(() => [200, '{"etcdserver":"3.6.4"}'])])
  t.teardown(() => {
    for (const { close } of [server, member]) close()
  })
  const { ctx, registered, said } = await masterWith(
    { 'kube-apiserver': server.port, 'kube-scheduler': server.port },
    { pem, keyPem },
  )
  const layout = {
    host: 'm1',
    components: {
      'kube-apiserver': {
        ...{ component: 'kube-apiserver', flags: {}, files: [{ role: 'client-ca' }] },
        endpoints: [{ address: '127.0.0.1', port: server.port, role: 'serving' }],
      },
      etcd: {
        ...{ component: 'etcd', files: [] },
        flags: {
          'listen-client-urls': [`https://127.0.0.1:${member.port}`],
          'listen-peer-urls': [`https://127.0.0.1:${member.port}`],
        },
      },
    },
  }
  registered.set(lookStep, [
    { ...state, name: 'kubernetes-ca', authority: 'kubernetes', authorities: ['kubernetes', 'etcd'] },
  ])
  registered.set(readingStep, { host: 'm1', layout })
  const [pair] = (registered.get(planStep) as { specs: { place: object }[] }).specs
  const asked = { usages: ['clientAuth', 'serverAuth'], place: pair!.place }
  const both = { id: 'kubeconfig', authority: 'kubernetes', hosts: ['m1'], ...asked }
  registered.set(planStep, {
    specs: [
      { ...both, usages: ['clientAuth'], commonName: 'admin', organizations: ['system:masters'] },
      { ...both, commonName: user, organizations: [user] },
    ],
  })
  t.deepEqual(await noteUnknowing.run(ctx), [])
  t.deepEqual(
    member.seen.map(({ path }) => path),
    ['/version', '/version'],
  )
  await acceptedEverywhere(ctx, async () => [{ credential: { certificate: pem, key: keyPem }, user }])
  t.is(said.at(-1), 'asked: kube-apiserver of m1, etcd of m1, etcd of m1 (peers)')
})

test('a server is asked until it refuses whom it is to refuse, and until it lets in whom it is to know', async t => {
  const authority = await issue({ name: 'CN=front-proxy-ca', ca: true })
  const pair = await issue({ name: 'CN=front-proxy-client', issuer: authority })
  const make = await listener(authority)
  let [asked, changes] = [0, 0]
  const late = (first: boolean) => (user: string) => {
    asked++
    return asked <= changes ? answers(first, user) : answers(!first, user)
  }
  const answers = (isKnown: boolean, user: string) =>
    isKnown ? refusal(user) : ([401, 'Unauthorized'] as [number, string])
  for (const [isKnown, gate] of [
    [true, refusedEverywhere],
    [false, acceptedEverywhere],
  ] as const) {
    ;[asked, changes] = [0, 4]
    const server = await make(late(isKnown))
    t.teardown(server.close)
    const { ctx } = await masterWith({ 'kube-apiserver': server.port, 'kube-scheduler': server.port }, pair)
    await gate(ctx, async () => [visitorOf(pair)])
    t.true(asked > changes, `${asked}`)
  }
})

test('a server that did not answer when the stage began need not refuse anybody as long as it does not; once it does, it must', async t => {
  const authority = await issue({ name: 'CN=front-proxy-ca', ca: true })
  const pair = await issue({ name: 'CN=front-proxy-client', issuer: authority })
  const [knows, other] = await Promise.all([listener(authority), issue({ name: 'CN=other', ca: true }).then(listener)])
  const [refusing, knowing, gone] = [await other(refusal), await knows(refusal), await knows(refusal)]
  gone.close()
  t.teardown(() => {
    refusing.close()
    knowing.close()
  })
  const { ctx, registered, said } = await masterWith(
    { 'kube-apiserver': refusing.port, 'kube-scheduler': gone.port },
    pair,
  )
  registered.set(noteUnknowing.id ?? '', [{ where: 'kube-scheduler of m1', silent: true }])
  await refusedEverywhere(ctx, async () => [visitorOf(pair)])
  t.regex(
    said.join('\n'),
    /^kube-scheduler of m1 did not answer before, and does not now: whom it lets in is not known$/m,
  )

  const back = await masterWith({ 'kube-apiserver': refusing.port, 'kube-scheduler': knowing.port }, pair)
  back.registered.set(noteUnknowing.id ?? '', [{ where: 'kube-scheduler of m1', silent: true }])
  const late = { ...(back.ctx as object), signal: AbortSignal.timeout(3_000) }
  await t.throwsAsync(async () => refusedEverywhere(late as never, async () => [visitorOf(pair)]))
})
