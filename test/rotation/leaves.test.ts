// Leaves made anew under the CA that is there, on this machine as the host: which are due, what is put in place of what, and what stays.
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { kubeconfigFields } from '../../lib/kubernetes/api/kubeconfig.ts'
import { swapFiles } from '../../lib/operations/staging.ts'
import { keyMatches, parseCertificate } from '../../lib/pki/certificates/certificate.ts'
import { leaves } from '../../lib/rotation/index.ts'
import { openIssued } from '../../lib/rotation/issue.ts'
import { found, localHost, unit } from '../kubernetes/components/_host.ts'

const day = 86_400_000

/** A machine with a CA and its key, an API server's pair, and a scheduler's kubeconfig that trusts another CA, too. */
async function machine(t: ExecutionContext) {
  const { session, folder } = await localHost(t)
  const at = (name: string) => join(folder, name)
  const read = (name: string) => readFileSync(at(name), 'utf8')
  const openssl = (...words: string[]) =>
    execFileSync('openssl', words, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  for (const name of ['ca', 'other'])
    openssl(
      'req',
      '-x509',
      ...ec,
      '-keyout',
      `${name}.key`,
      '-out',
      `${name}.crt`,
      '-days',
      '400',
      '-subj',
      `/CN=${name}`,
    )
  const leaf = (name: string, key: string[], subject: string, days: number, extensions: string) => {
    writeFileSync(at('extensions'), extensions)
    openssl('req', ...key, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject)
    openssl(
      ...['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'],
      ...['-days', `${days}`, '-extfile', 'extensions', '-out', `${name}.crt`],
    )
    return read(`${name}.crt`)
  }
  const rsa = ['-newkey', 'rsa:2048', '-nodes']
  const names = 'subjectAltName=DNS:api.example,IP:10.0.0.1\nextendedKeyUsage=serverAuth'
  const serving = leaf('apiserver', rsa, '/CN=kube-apiserver', 20, names)
  const client = leaf('scheduler', ec, '/CN=system:kube-scheduler', 90, 'extendedKeyUsage=clientAuth')
  const base64 = (name: string) => Buffer.from(read(name)).toString('base64')
  writeFileSync(at('both.crt'), read('other.crt') + read('ca.crt'))
  writeFileSync(
    at('scheduler.conf'),
    `# made by hand
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: ${base64('both.crt')}}}]
contexts: [{name: it, context: {cluster: here, user: me}}]
current-context: it
users: [{name: me, user: {client-certificate-data: ${base64('scheduler.crt')}, client-key-data: ${base64('scheduler.key')}}}]
`,
  )
  const lies = (name: string) => ({ path: at(name), real: at(name) })
  const components = {
    'kube-apiserver': found({
      component: 'kube-apiserver',
      runs: unit('kube-apiserver'),
      files: [
        { role: 'client-ca', by: '--any', ...lies('ca.crt') },
        { role: 'serving', by: '--any', ...lies('apiserver.crt'), key: lies('apiserver.key') },
      ],
    }),
    'kube-scheduler': found({
      component: 'kube-scheduler',
      runs: unit('kube-scheduler'),
      files: [{ role: 'kubeconfig', by: '--kubeconfig', ...lies('scheduler.conf') }],
    }),
  }
  const registered: Record<string, unknown> = {
    'read-the-certificates': {
      ...{ host: 'm1', controlPlane: true, authority: read('ca.crt'), files: {} },
      certificates: { [at('ca.crt')]: read('ca.crt'), [at('apiserver.crt')]: serving, [at('scheduler.conf')]: client },
      kubeconfigs: {
        [at('scheduler.conf')]: {
          ...{ cluster: 'here', context: 'it', user: 'me', server: 'https://10.0.0.1:6443', holdsAuthority: true },
        },
      },
      layout: { host: 'm1', components },
    },
  }
  const told: string[] = []
  const ctx = {
    ...session,
    ...{
      run: 'r1',
      mode: 'run',
      check: false,
      log: (line: string) => told.push(line),
      milestone: () => {},
      redact: () => {},
    },
    ...{
      hosts: () => [session.host],
      on: async () => session,
      cluster: { nodes: async () => [] },
      issued: openIssued(),
    },
    registered: (step: string) => registered[step],
    vars: {
      certificate_ttl: '8760h',
      pki_mount: 'pki',
      extra_certificates: [],
      cluster_name: 'any',
      vault_manage_roles: true,
    },
  }
  /** Runs a step, and keeps what it returns as a run does. */
  const does = async (step: { id?: string; run(ctx: never): unknown }, vars: object = {}) => {
    const returned = await step.run({ ...ctx, vars: { ...ctx.vars, ...vars } } as never)
    if (step.id !== undefined) registered[step.id] = returned
    return returned as never
  }
  const due = async (vars: object = {}) =>
    ((await does(leaves.plan, vars)) as { specs: { id: string }[] }).specs.map(({ id }) => id)
  return { ctx: ctx as never, at, read, does, due, openssl }
}

test('a new pair says what the old one says, with a key of its kind; a kubeconfig keeps all but its client', async t => {
  const { ctx, read, does, due, openssl } = await machine(t)
  t.deepEqual(await due(), ['apiserver', 'scheduler'])
  const before = { pair: parseCertificate(read('apiserver.crt')), config: read('scheduler.conf') }
  const swap = (await does(leaves.issueAndStage)) as never
  await does(leaves.verifyIssued)
  t.is(parseCertificate(read('apiserver.crt')).fingerprint, before.pair.fingerprint, 'nothing is in place yet')
  await swapFiles(ctx, 'r1', swap)
  t.regex(openssl('verify', '-CAfile', 'ca.crt', 'apiserver.crt'), /OK/)
  const now = parseCertificate(read('apiserver.crt'))
  for (const what of ['subject', 'dnsNames', 'ipAddresses', 'extendedKeyUsages', 'keyType'] as const)
    t.deepEqual(now[what], before.pair[what], what)
  t.true(now.notAfter.getTime() > Date.now() + 360 * day)
  t.true(keyMatches(read('apiserver.crt'), read('apiserver.key')))
  const config = read('scheduler.conf')
  const [was, is] = [before.config, config].map(text => kubeconfigFields(text, 'scheduler.conf'))
  t.is(
    config.replaceAll(/client-(certificate|key)-data: \w[^,}]*/g, ''),
    before.config.replaceAll(/client-(certificate|key)-data: \w[^,}]*/g, ''),
  )
  t.is(is?.ca, was?.ca)
  t.not(is?.certificate, was?.certificate)
  t.true(keyMatches(is?.certificate ?? '', is?.key ?? ''))
  t.is(parseCertificate(is?.certificate ?? '').keyType, 'ECDSA-P-256')
})

test.serial('a key is that of its certificate, also where a second goes by between the two', async t => {
  const { does, due } = await machine(t)
  // Longer than the CA holds: what is asked for is the time that is left of that.
  const vars = { certificate_ttl: '12000h' }
  await due(vars)
  const { now } = Date
  let seconds = 0
  t.teardown(() => {
    Date.now = now
  })
  Date.now = () => now() + 1_000 * seconds++
  await does(leaves.issueAndStage, vars)
  Date.now = now
  await t.notThrowsAsync(does(leaves.verifyIssued))
})

test('only what ends soon is due, or what is named; what was just made is not', async t => {
  const { due } = await machine(t)
  t.deepEqual(await due({ within: 30 * day }), ['apiserver'])
  t.deepEqual(await due({ within: 10 * day }), [])
  t.deepEqual(await due({ components: ['kube-scheduler'] }), ['scheduler'])
  // Nothing would hold longer by a day.
  t.deepEqual(await due({ certificate_ttl: '480h' }), [])
  t.deepEqual(await due({ certificate_ttl: '600h' }), ['apiserver'])
})

test('what can not be made anew is refused before anything is changed, and it is said what to do', async t => {
  const { at, due } = await machine(t)
  const refused = async (vars: object = {}) => {
    const { code, message, hint } = (await t.throwsAsync(due(vars))) as RekeyError
    return { code, text: `${message} ${hint}` }
  }
  t.like(await refused({ components: ['apiservre'] }), { code: 'leaves.unknown-component' })
  t.regex((await refused({ components: ['apiservre'] })).text, /no certificate of apiservre.*apiserver/)
  t.like(await refused({ within: 400 * day }), { code: 'leaves.within' })
  writeFileSync(at('ca.key'), readFileSync(at('other.key')))
  t.like(await refused(), { code: 'preflight.no-key' })
})

test('what was found is told, and counted for whoever watches: until when the first certificate of each component holds, and each CA', async t => {
  const { ctx, read, does, due } = await machine(t)
  await due({ components: ['apiserver'] })
  const sections = await leaves.report({ ...(ctx as object), check: true, outcome: 'done' } as never)
  t.deepEqual([sections[0]?.title, sections[0]?.rows[0]], ['Certificates', ['due', '1 of 2']])
  t.regex(sections[0]?.rows[1]?.join(' ') ?? '', /^ends first m1:.*\/apiserver\.crt on /)
  const end = (name: string) => Date.parse(new X509Certificate(read(name)).validTo) / 1_000
  const { metrics = [] } = sections[0] ?? {}
  t.deepEqual(
    metrics.filter(({ name }) => name.endsWith('_end_timestamp_seconds')).map(({ labels, value }) => [labels, value]),
    [
      [{ host: 'm1', component: 'kube-apiserver' }, end('apiserver.crt')],
      [{ host: 'm1', component: 'kube-scheduler' }, end('scheduler.crt')],
      [{ authority: 'kubernetes-ca' }, end('ca.crt')],
    ],
  )
  // What is staged counts once it is in place.
  const ofTheServer = async () => {
    const [{ metrics: now = [] } = {}] = await leaves.report({
      ...(ctx as object),
      check: true,
      outcome: 'done',
    } as never)
    return now.find(({ labels }) => labels?.['component'] === 'kube-apiserver')?.value
  }
  const before = end('apiserver.crt')
  const swap = (await does(leaves.issueAndStage)) as never
  await does(leaves.verifyIssued)
  t.is(await ofTheServer(), before)
  await does({ id: 'put-the-certificates-in-place', run: async () => ({ at: await swapFiles(ctx, 'r1', swap) }) })
  t.not(end('apiserver.crt'), before)
  t.is(await ofTheServer(), end('apiserver.crt'))
})

test('no certificate ends after its CA', t => {
  const now = Date.parse('2030-01-01')
  const ca = (notAfter: number) => leaves.nextEndUnder(notAfter, '8760h', now)
  t.is(ca(now + 1_000 * day), now + 365 * day)
  t.true(ca(now + 100 * day) < now + 100 * day)
  t.false(leaves.isDue(now + 99.5 * day, ca(now + 100 * day), undefined, now))
})
