// The first API server as a canary: a change that its log says clients can't follow is taken back there, and they are named. The log is a file of this machine.
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../../../lib/errors.ts'
import { parseCertificate } from '../../../../lib/pki/certificates/certificate.ts'
import type { StepDefinition } from '../../../../lib/playbook/model.ts'
import { planStep, readingStep } from '../../../../lib/rotation/given/found.ts'
import { lookStep } from '../../../../lib/rotation/keysets/state.ts'
import {
  addressIn,
  asCanary,
  outdated,
  type Sign,
  serialIn,
  unbelieving,
} from '../../../../lib/rotation/keysets/trust/canary.ts'
import { temporaryFolder } from '../../../_temporary.ts'
import { localSession } from '../../../kubernetes/_local.ts'
import { issue } from '../../../pki/certificates/_certificates.ts'

type Signs = Sign<never>

/** A cluster of m1 and n1 whose API server logs to a file, and where a step was made a canary. */
async function clusterOf(vars: Record<string, unknown> = {}, { logs = true, traced = true } = {}) {
  const folder = temporaryFolder('keyset-canary')
  const pods = join(folder, 'pods')
  const log = join(pods, 'kube-system_kube-apiserver-m1_1', 'kube-apiserver', '0.log')
  mkdirSync(join(log, '..'), { recursive: true })
  const manifest = join(folder, 'kube-apiserver.yaml')
  writeFileSync(manifest, 'metadata: {name: kube-apiserver, namespace: kube-system}\n')
  const write = (words: string, ahead: number) =>
    appendFileSync(log, `${new Date(Date.now() + ahead * 1_000).toISOString()} stderr F I1130 ${words}\n`)
  if (logs) write('started', -60)
  const [old, next] = await Promise.all(['old', 'next'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const leaf = await issue({ name: 'O=system:masters,CN=kubernetes-admin', issuer: old })
  const kept = join(folder, 'keysets', 'kubernetes-ca', 'old')
  mkdirSync(kept, { recursive: true })
  writeFileSync(join(kept, 'admin.conf'), `  client-certificate-data: ${Buffer.from(leaf.pem).toString('base64')}\n`)
  const item = (pem: string, state: string) => ({ key: state, id: state, state, certificate: pem })
  const items = [item(next!.pem, 'primary'), item(old!.pem, 'trusted')]
  const components = {
    'kube-apiserver': {
      component: 'kube-apiserver',
      flags: {},
      runs: { kind: 'static-pod', manifest },
      endpoints: [],
      files: [],
    },
  }
  const registered: Record<string, unknown> = {
    [lookStep]: [{ name: 'kubernetes-ca', authority: 'kubernetes', items, bundles: {}, uses: [], unread: [] }],
    [readingStep]: { host: 'm1', nodeName: 'm1', layout: { host: 'm1', components } },
    [planStep]: { specs: [], addresses: { m1: '10.0.0.1', n1: '10.0.0.2' } },
  }
  const did: string[] = []
  const said: string[] = []
  const session = await localSession(command => command.replaceAll('/var/log/pods', pods))
  const api = {
    list: async (path: string) =>
      path.endsWith('10.85.0.7') ? [{ metadata: { namespace: 'shop', name: 'web' } }] : [],
    putText: async (_: string, text: string) => {
      if (!traced) throw new Error('PUT /debug/flags/v: 404')
      did.push(`verbosity ${text}`)
    },
  }
  const ctx = {
    ...session,
    vars: { canary_watch: 1, accept: [], backup_directory: folder, ...vars },
    signal: new AbortController().signal,
    hosts: () => [session.host],
    on: async () => session,
    log: (line: string) => said.push(line),
    registered: (step: string) => registered[step],
    cluster: { apiOf: async () => api, api: async () => api },
  } as never
  const step = (sign: Signs, ...words: string[]): StepDefinition<never> =>
    asCanary<never>(
      {
        run: () => {
          did.push('changed')
          for (const [index, one] of words.entries()) write(one, 5 + index)
          return { at: 1 }
        },
        rollback: () => void did.push('taken back'),
      },
      {
        ...sign,
        inForce: () => did.push('in force'),
        prepared: async () => async () => void did.push('ready once more'),
      },
    )
  return { ctx, did, said, write, step, leaf }
}

const handshake = (address: string, why = 'bad certificate') =>
  `log.go:245] http: TLS handshake error from ${address}:41234: remote error: tls: ${why}`

test('a change that clients can’t follow is taken back on the first API server, made ready once more, and the clients are named', async t => {
  const { ctx, did, step, write } = await clusterOf()
  write(handshake('10.9.9.9'), -30)
  const change = step(
    unbelieving,
    handshake('10.85.0.7'),
    handshake('10.0.0.2', 'unknown certificate authority'),
    handshake('10.7.7.7'),
  )
  const error = await t.throwsAsync<RekeyError>(async () => change.run(ctx))
  t.is(error?.code, 'keysets.clients-behind')
  t.regex(
    error?.message ?? '',
    /API server of m1 is as it was again: Pod shop\/web \(10\.85\.0\.7\); somebody on n1 \(10\.0\.0\.2\); somebody at 10\.7\.7\.7$/,
  )
  t.regex(error?.hint ?? '', /accept: \[client\/10\.85\.0\.7, client\/10\.0\.0\.2, client\/10\.7\.7\.7\]/)
  t.deepEqual(did, ['verbosity 5', 'changed', 'in force', 'taken back', 'ready once more', 'verbosity 0'])
})

test('clients that were accepted, and those of before, do not matter; nobody is watched for where that is not wanted, or nothing is told', async t => {
  const accepted = await clusterOf({ accept: ['client/10.85.*'] })
  accepted.write(handshake('10.9.9.9'), -30)
  t.deepEqual(await accepted.step(unbelieving, handshake('10.85.0.7')).run(accepted.ctx), { at: 1 })
  t.deepEqual(accepted.did, ['verbosity 5', 'changed', 'in force', 'verbosity 0'])
  const off = await clusterOf({ canary_watch: 0 })
  await off.step(unbelieving, handshake('10.85.0.7')).run(off.ctx)
  t.deepEqual(off.did, ['changed'])
  for (const without of [{ logs: false }, { traced: false }]) {
    const { ctx, did, said, step } = await clusterOf({}, without)
    await step(unbelieving, handshake('10.85.0.7')).run(ctx)
    t.deepEqual(did, ['changed'])
    t.regex(said.join('\n'), /^m1: nobody is watched for/)
  }
})

test('who comes by what the old CA has signed is named by what masters keep of it, else by its serial number', async t => {
  const { ctx, did, step, leaf } = await clusterOf()
  const { serialNumber, authorityKeyId = '' } = parseCertificate(leaf.pem)
  const akid = authorityKeyId
    .replaceAll(':', '')
    .toUpperCase()
    .replace(/..(?!$)/g, '$&:')
  const refused = (serial: bigint, by: string) =>
    `"Unable to authenticate the request" err="[x509: certificate signed by unknown authority, verifying certificate SN=${serial}, SKID=, AKID=${by} failed: x509: certificate signed by unknown authority]"`
  const change = step(outdated, refused(BigInt(`0x${serialNumber}`), akid), refused(255n, akid), refused(17n, '00:11'))
  const error = await t.throwsAsync<RekeyError>(async () => change.run(ctx))
  t.regex(
    error?.message ?? '',
    /the old certificate of .*kubernetes-admin.*; somebody with a certificate of the serial number ff$/,
  )
  // What it says of clients it says at any verbosity.
  t.deepEqual(did, ['changed', 'in force', 'taken back', 'ready once more'])
})

test('what an API server’s log tells of a client', t => {
  t.is(addressIn(handshake('[fd00::1]')), 'fd00::1')
  t.is(addressIn(`{"msg":"${handshake('10.0.0.9', 'unknown certificate')}\\n"}`), '10.0.0.9')
  for (const why of ['bad record MAC', 'internal error', 'protocol version not supported'])
    t.is(addressIn(handshake('10.0.0.9', why)), undefined, why)
  // OpenSSL's alert of TLS 1.3, as Go reads it.
  t.is(addressIn('http: TLS handshake error from 10.0.0.8:1: local error: tls: bad record MAC'), '10.0.0.8')
  for (const said of ['EOF', 'write tcp 10.0.0.1:6443->10.0.0.9:1: write: connection reset by peer'])
    t.is(addressIn(`http: TLS handshake error from 10.0.0.9:1: ${said}`), undefined)
  t.is(addressIn(handshake('999.0.0.9')), undefined)
  t.is(serialIn('verifying certificate SN=16, SKID=, AKID= failed'), '10')
  t.is(serialIn('verifying certificate SN=, SKID='), undefined)
})
