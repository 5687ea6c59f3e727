// The pieces that give a CA a longer time, on this machine as the host: which CAs, whose keys, what is put where, and back.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { startTimesOf } from '../../lib/kubernetes/components/control.ts'
import { backUpFiles } from '../../lib/operations/backup.ts'
import { certificatesWithin } from '../../lib/pki/certificates/bundle-text.ts'
import { parseCertificate, verifyChain } from '../../lib/pki/certificates/certificate.ts'
import { renewal, type restart } from '../../lib/rotation/index.ts'
import { swapOf } from '../../lib/rotation/renewal/files.ts'
import { found, localHost, unit } from '../kubernetes/components/_host.ts'

type Vars = Partial<renewal.Variables & restart.Variables>

/** A machine with a CA in three files, a leaf of it, and the CA's key beside it. */
async function machine(
  t: ExecutionContext,
  { days = 30, roles = ['client-ca'] }: { days?: number; roles?: string[] } = {},
) {
  const { session, folder } = await localHost(t)
  const at = (name: string) => join(folder, name)
  const openssl = (...words: string[]) =>
    execFileSync('openssl', words, { cwd: folder, stdio: ['ignore', 'ignore', 'ignore'] })
  const write = (name: string, text: string) => {
    mkdirSync(dirname(at(name)), { recursive: true })
    writeFileSync(at(name), text)
  }
  const read = (name: string) => readFileSync(at(name), 'utf8')
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', `${days}`, '-subj', '/CN=kubernetes')
  openssl('req', '-x509', ...key, '-keyout', 'other.key', '-out', 'other.crt', '-days', '30', '-subj', '/CN=kubernetes')
  openssl('req', ...key, '-keyout', 'leaf.key', '-out', 'leaf.csr', '-subj', '/CN=leaf')
  openssl(
    'x509',
    '-req',
    '-in',
    'leaf.csr',
    '-CA',
    'ca.crt',
    '-CAkey',
    'ca.key',
    '-CAcreateserial',
    '-days',
    '20',
    '-out',
    'leaf.crt',
  )
  const [ca, other, leaf] = [read('ca.crt'), read('other.crt'), read('leaf.crt')]
  write('bundle.crt', `# ours is the second\n${other}${ca}`)
  write(
    'kubelet.conf',
    `clusters:\n- cluster:\n    certificate-authority-data: ${Buffer.from(ca).toString('base64')}\n`,
  )
  write('backups/ca.crt', ca)
  const names = ['ca.crt', 'bundle.crt', 'kubelet.conf', 'backups/ca.crt', 'leaf.crt']
  const held: Record<string, string[]> = { 'bundle.crt': [other, ca], 'leaf.crt': [leaf] }
  const apiServer = found({
    component: 'kube-apiserver',
    runs: unit('kube-apiserver'),
    files: roles.map(role => ({ role, by: '--any', path: at('ca.crt'), real: at('ca.crt') })) as never,
  })
  const registered: Record<string, unknown> = {
    'read-the-certificates': {
      ...{ host: 'm1', controlPlane: true, kubeconfigs: {}, authority: ca, files: {} },
      certificates: { [at('ca.crt')]: ca, [at('leaf.crt')]: leaf },
      layout: { host: 'm1', components: { 'kube-apiserver': apiServer } },
    },
    'look-for-certificates': {
      files: names.map(name => ({ real: at(name), mode: 0o644, owner: '', certificates: held[name] ?? [ca] })),
      ports: { 'm1:6443': [leaf] },
    },
  }
  const ctx = {
    ...session,
    ...{
      run: 'r1',
      mode: 'run',
      check: false,
      log: () => {},
      milestone: () => {},
      hosts: () => [session.host],
      on: async () => session,
    },
    registered: (step: string) => registered[step],
    vars: {
      keysets: ['kubernetes-ca', 'etcd-ca', 'front-proxy-ca'],
      ca_ttl: '8760h',
      pki_mount: 'pki',
      backup_directory: at('kept'),
    },
  }
  /** Runs a step, and keeps what it returns as a run does. */
  const does = async (step: { id?: string; run(ctx: never): unknown }, vars: Vars = {}) => {
    const returned = await step.run({ ...ctx, vars: { ...ctx.vars, ...vars } } as never)
    if (step.id !== undefined) registered[step.id] = returned
    return returned
  }
  return { ctx: ctx as never, at, read, write, does, registered, ca, other, leaf }
}

test('the new certificate takes the place of the old one wherever that stands, and the old one takes it back', async t => {
  const { ctx, at, read, does, ca, other, leaf } = await machine(t)
  const names = ['ca.crt', 'bundle.crt', 'kubelet.conf']
  const before = names.map(read)
  for (const step of [renewal.plan, renewal.sign, renewal.verifyAllLeaves, renewal.stage, renewal.verifyStaged])
    await does(step)
  t.deepEqual(names.map(read), before, 'nothing is in place yet')
  await backUpFiles(ctx, at('kept/r1/host.tgz'), names.map(at))
  await does(renewal.place)
  const [renewed = ''] = certificatesWithin(read('ca.crt'))
  t.true(parseCertificate(renewed).notAfter > parseCertificate(ca).notAfter)
  t.is(verifyChain(leaf, renewed).length, 2)
  t.is(read('bundle.crt'), `# ours is the second\n${other}${renewed}`)
  t.deepEqual(certificatesWithin(read('kubelet.conf')), [renewed])
  t.is(read('backups/ca.crt'), ca, 'what somebody put aside is left alone')
  t.deepEqual(swapOf(ctx).rename, names.map(at))
  const [check, , putBack] = renewal.wayBack
  await check?.run(ctx)
  await putBack?.run(ctx)
  t.deepEqual(names.map(read), before)
})

test('one CA for several is renewed for all of them, whichever was named', async t => {
  const { does } = await machine(t, { roles: ['client-ca', 'etcd-ca', 'front-proxy-ca'] })
  const planned = (await does(renewal.plan, { keysets: ['etcd-ca'] })) as { roles: string[] }[]
  t.deepEqual(
    planned.map(({ roles }) => roles),
    [['kubernetes', 'etcd', 'front-proxy']],
  )
})

test('what can not be renewed is refused before anything is changed, and it is said what to do', async t => {
  const refused = async (made: Awaited<ReturnType<typeof machine>>, vars: Vars = {}) => {
    const { code, message, hint } = (await t.throwsAsync(does(made, vars))) as RekeyError
    return { code, message, hint }
  }
  const does = ({ does }: Awaited<ReturnType<typeof machine>>, vars: Vars) => does(renewal.plan, vars)
  const well = await machine(t)
  t.like(await refused(well, { ca_ttl: '24h' }), {
    code: 'preflight.no-renewal',
    hint: 'Give a longer ca_ttl, or leave it out: keysets.',
  })
  t.like(await refused(well, { keysets: ['etcd-ca'] }), { code: 'preflight.keysets', hint: 'It has kubernetes-ca.' })
  well.write('ca.key', well.read('other.key'))
  const { code, message } = await refused(well)
  t.is(code, 'preflight.no-key')
  t.regex(
    message,
    /the key of kubernetes-ca \("CN=kubernetes"\) was found nowhere: no Vault was named, and no host has it/,
  )
  const intermediate = await machine(t)
  Object.assign(intermediate.registered, {
    'read-the-certificates': {
      ...(intermediate.registered['read-the-certificates'] as object),
      certificates: { [intermediate.at('ca.crt')]: intermediate.leaf },
    },
  })
  t.is((await refused(intermediate)).code, 'pki.not-root')
})

test('when a process was started is told by the clock of its host', async t => {
  const { session } = await localHost(t)
  const kubelet = found({ component: 'kubelet', runs: unit('kubelet') })
  t.deepEqual(await startTimesOf(session, kubelet), [])
  const before = Date.now() / 1_000
  await session.$`systemctl restart kubelet.service`
  const [at = 0] = await startTimesOf(session, kubelet)
  // Ticks are hundredths.
  t.true(at >= before - 0.02 && at <= Date.now() / 1_000 + 0.02, `${at - before}`)
})

test('the only API server is not restarted by a renewal before somebody has accepted that the API is away', async t => {
  const { does, ctx } = await machine(t)
  await does(renewal.plan)
  const refused = await t.throwsAsync(async () => does(renewal.restart.mayBeAway), { code: 'drained.alone' })
  t.regex((refused as RekeyError).hint ?? '', /accept_gap=true/)
  await t.notThrowsAsync(async () => does(renewal.restart.mayBeAway, { accept_gap: true }))
  const { host } = ctx as { host: object }
  const two = { ...(ctx as object), hosts: () => [host, { ...host, name: 'm2' }] }
  t.notThrows(() => renewal.restart.mayBeAway.run(two as never))
})
