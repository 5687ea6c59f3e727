// A cluster whose certificates have ended, on this machine as its host: what is found without an API, what is refused by name, and what is made anew.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, readlinkSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { keyMatches, parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { signAnew } from '../../../lib/pki/issuer/signing.ts'
import { rescue } from '../../../lib/rotation/index.ts'
import { openIssued } from '../../../lib/rotation/issue.ts'
import { found, localHost, unit } from '../../kubernetes/components/_host.ts'

const day = 86_400_000
const past = { notBefore: new Date(Date.now() - 400 * day), notAfter: new Date(Date.now() - day) }

/** A machine with a CA and its key, an API server's pair, a kubelet's, and what may be wrong with them. */
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
  const leaf = (name: string, subject: string, extensions: string) => {
    writeFileSync(at('extensions'), extensions)
    openssl('req', ...ec, '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', subject)
    openssl(
      ...['x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'],
      ...['-days', '300', '-extfile', 'extensions', '-out', `${name}.crt`],
    )
  }
  leaf('apiserver', '/CN=kube-apiserver', 'subjectAltName=DNS:api.example,IP:10.0.0.1\nextendedKeyUsage=serverAuth')
  leaf('node', '/O=system:nodes/CN=system:node:m1', 'extendedKeyUsage=clientAuth')
  writeFileSync(at('kubelet-client-2025-01-01-00-00-00.pem'), read('node.crt') + read('node.key'))
  symlinkSync('kubelet-client-2025-01-01-00-00-00.pem', at('kubelet-client-current.pem'))
  const current = at('kubelet-client-current.pem')
  writeFileSync(
    at('kubelet.conf'),
    `apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: 'https://10.0.0.1:6443', certificate-authority-data: ${Buffer.from(read('ca.crt')).toString('base64')}}}]
contexts: [{name: it, context: {cluster: here, user: me}}]
current-context: it
users: [{name: me, user: {client-certificate: ${current}, client-key: ${current}}}]
`,
  )
  const lies = (name: string, real = name) => ({ path: at(name), real: at(real) })
  const layout = {
    host: 'm1',
    components: {
      'kube-apiserver': found({
        component: 'kube-apiserver',
        runs: unit('kube-apiserver'),
        files: [
          { role: 'client-ca', by: '--any', ...lies('ca.crt') },
          { role: 'serving', by: '--any', ...lies('apiserver.crt'), key: lies('apiserver.key') },
        ],
      }),
      'kube-controller-manager': found({
        component: 'kube-controller-manager',
        runs: unit('kube-controller-manager'),
        files: [{ role: 'signing', by: '--any', ...lies('ca.crt'), key: lies('ca.key') }],
      }),
      kubelet: found({
        component: 'kubelet',
        runs: unit('kubelet'),
        flags: { 'cert-dir': [folder], 'node-ip': ['10.0.0.1'] },
        files: [
          { role: 'kubeconfig', by: '--kubeconfig', ...lies('kubelet.conf') },
          { role: 'client-ca', by: '--any', ...lies('ca.crt') },
        ],
      }),
    },
  }
  const registered: Record<string, unknown> = {}
  const reread = (kubeconfig: object = { certificateFile: current, keyFile: current }, linked = true) => {
    const real = linked ? at('kubelet-client-2025-01-01-00-00-00.pem') : current
    const files = Object.fromEntries(
      ['ca.crt', 'apiserver.crt', 'apiserver.key', 'kubelet.conf'].map(name => [
        at(name),
        { real: at(name), mode: 0o600, owner: 'root:root' },
      ]),
    )
    registered['read-the-certificates'] = {
      ...{
        host: 'm1',
        nodeName: 'm1',
        controlPlane: true,
        adminKubeconfig: at('admin.conf'),
        authority: read('ca.crt'),
        layout,
      },
      files: { ...files, [current]: { real, mode: 0o600, owner: 'root:root' } },
      certificates: {
        ...{ [at('ca.crt')]: read('ca.crt'), [at('apiserver.crt')]: read('apiserver.crt') },
        [current]: parseCertificate(readFileSync(current, 'utf8')).pem,
      },
      kubeconfigs: {
        [at('kubelet.conf')]: {
          ...{ cluster: 'here', context: 'it', user: 'me', server: 'https://10.0.0.1:6443', holdsAuthority: true },
          ...kubeconfig,
        },
      },
    }
    const held = ['ca.crt', 'apiserver.crt', 'kubelet.conf', 'kubelet-client-current.pem'].map(name => ({
      ...{ real: name === 'kubelet-client-current.pem' ? real : at(name), mode: 0o600, owner: '0:0' },
      certificates: name === 'kubelet.conf' ? [read('ca.crt')] : [parseCertificate(read(name)).pem],
    }))
    registered['look-for-certificates'] = { files: held, ports: {} }
  }
  reread()
  const cluster = {
    ready: false,
    forget: () => {},
    apiServerReady: async () => {
      if (!cluster.ready) throw new Error('it does not answer')
    },
  }
  const told: string[] = []
  const milestones = new Map<string, number>()
  const ctx = {
    ...session,
    ...{ run: 'r1', mode: 'run', check: false, folder, signal: new AbortController().signal },
    ...{ log: (line: string) => told.push(line), redact: () => {}, timeline: { milestones } },
    milestone: (name: string) => milestones.set(name, 1),
    hosts: () => [{ ...session.host, groups: ['masters'] }],
    host: { ...session.host, groups: ['masters'] },
    ...{ on: async () => session, issued: openIssued(), cluster },
    registered: (step: string) => registered[step],
    vars: {
      ...{ certificate_ttl: '8760h', ca_ttl: '43800h', pki_mount: 'pki', within: 30 * day },
      ...{ extra_certificates: [], cluster_name: 'any', vault_manage_roles: true, backup_directory: at('backups') },
    },
  }
  /** Runs a step where it is not left out, and keeps what it returns as a run does. */
  const does = async (step: { id?: string; when?(ctx: never): unknown; run(ctx: never): unknown }) => {
    if (step.when && !(await step.when(ctx as never))) return undefined
    const returned = await step.run(ctx as never)
    if (step.id !== undefined) registered[step.id] = returned
    return returned as never
  }
  const planned = async () => {
    for (const step of [rescue.look, rescue.refuse, rescue.planAuthorities, rescue.plan]) await does(step)
    const lines = ((await does(rescue.tell)) ?? []) as string[]
    return {
      lines,
      due: (registered['plan-the-certificates'] as { specs: { id: string }[] }).specs.map(({ id }) => id),
    }
  }
  /** Has a certificate of a file end yesterday. */
  const end = async (name: string, key = 'ca.key') => {
    const old = parseCertificate(read(name)).pem
    writeFileSync(at(name), read(name).replace(old, await signAnew(old, { ...past, signingKey: read(key) })))
    reread()
  }
  /** What systemd was told. */
  const started = () =>
    existsSync(at('told'))
      ? read('told')
          .split('\n')
          .filter(line => line.startsWith('restart'))
      : []
  return { at, read, does, planned, end, reread, openssl, registered, told, cluster, started, vars: ctx.vars }
}

const refused = async (t: ExecutionContext, work: Promise<unknown>) => {
  const { code, message, hint } = (await t.throwsAsync(work)) as RekeyError
  return { code, text: `${message} ${hint}` }
}

const all = [rescue.issueAndStage, rescue.verifyIssued, rescue.placeLeaves]
const anew = [rescue.signAuthorities, rescue.stageAuthorities, rescue.verifyAuthorities, rescue.placeAuthorities]

test('what has ended is found from the host alone, said with what is down because of it, and made anew under the CA that is there', async t => {
  const { at, read, does, planned, end, openssl } = await machine(t)
  await end('apiserver.crt')
  const { lines, due } = await planned()
  t.deepEqual(due, ['apiserver'], 'what holds is left alone')
  const said = lines.join('\n')
  t.regex(said, /^m1: has ended on .*apiserver\.crt$/m)
  t.regex(said, /^m1: kube-apiserver is down \(does not run\); it goes by what has ended: apiserver$/m)
  t.regex(said, /^to do: make 1 of 2 certificates anew, for 8760h$/m)
  t.notRegex(said, /kubernetes-ca/)
  const before = parseCertificate(read('apiserver.crt'))
  for (const step of [...anew, ...all]) await does(step)
  t.regex(openssl('verify', '-CAfile', 'ca.crt', 'apiserver.crt'), /OK/)
  t.deepEqual(parseCertificate(read('apiserver.crt')).dnsNames, before.dnsNames)
  t.true(keyMatches(read('apiserver.crt'), read('apiserver.key')))
  t.regex(readFileSync(at('kubelet-client-current.pem'), 'utf8'), /PRIVATE KEY/)
})

test('where nothing has ended and everything is whole and serves, that is said and nothing is due', async t => {
  const { planned, does, registered } = await machine(t)
  const { due } = await planned()
  t.deepEqual(due, [])
  registered['look-what-is-down'] = { components: [], damage: [], unreadable: [] }
  t.deepEqual(await does(rescue.tell), [
    'nothing has ended, nothing is half done, and everything serves: there is nothing to do',
  ])
})

test('a CA that has ended is signed anew with its key, in every file that holds it, before anything is issued by it', async t => {
  const { at, read, does, planned, end, openssl } = await machine(t)
  await end('ca.crt')
  await end('kubelet-client-2025-01-01-00-00-00.pem')
  const before = parseCertificate(read('ca.crt'))
  const { lines, due } = await planned()
  t.regex(lines.join('\n'), /^kubernetes-ca has ended on .*$/m)
  t.regex(lines.join('\n'), /^m1: kube-apiserver is down .*; it goes by what has ended: kubernetes-ca$/m)
  t.regex(lines.join('\n'), /^to do: sign kubernetes-ca anew with the key that it has, for 43800h$/m)
  t.deepEqual(due, ['kubelet-client'], 'what the CA has signed and still holds stays')
  for (const step of [...anew, ...all]) await does(step)
  const now = parseCertificate(read('ca.crt'))
  t.true(now.notAfter.getTime() > Date.now() + 1_000 * day)
  t.is(now.subjectKeyId, before.subjectKeyId)
  t.true(read('kubelet.conf').includes(Buffer.from(now.pem).toString('base64')))
  t.regex(openssl('verify', '-CAfile', 'ca.crt', 'apiserver.crt'), /OK/)
  t.regex(openssl('verify', '-CAfile', 'ca.crt', 'kubelet-client-current.pem'), /OK/)
  t.regex(readlinkSync(at('kubelet-client-current.pem')), /kubelet-client-2\d{3}-.*\.pem$/)
})

test('half-done work is told by its name, and made anew', async t => {
  const { at, read, planned, reread, does } = await machine(t)
  writeFileSync(at('apiserver.key'), read('other.key'))
  renameSync(at('kubelet-client-2025-01-01-00-00-00.pem'), at('kubelet-client-current.pem'))
  reread({}, false)
  const { lines, due } = await planned()
  t.deepEqual(due, ['apiserver', 'kubelet-client'])
  const said = lines.join('\n')
  t.regex(said, /apiserver\.crt: \S+apiserver\.key is not its key/)
  t.regex(said, /kubelet-client-current\.pem: it is no link to a dated file/)
  t.regex(said, /kubelet-client-current\.pem: \S+kubelet\.conf names no certificate/)
  for (const step of all) await does(step)
  t.true(keyMatches(read('apiserver.crt'), read('apiserver.key')))
  t.regex(readlinkSync(at('kubelet-client-current.pem')), /kubelet-client-2\d{3}-.*\.pem$/)
  t.true(read('kubelet.conf').includes(`client-certificate: ${at('kubelet-client-current.pem')}`))
})

test('a pair that is half done and that no CA of the cluster has signed is told, and said to be left', async t => {
  const { read, at, openssl, planned, registered } = await machine(t)
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-keyout',
    'own.key',
    '-out',
    'own.crt',
    '-subj',
    '/CN=own',
  )
  writeFileSync(at('own.key'), read('other.key'))
  const reading = registered['read-the-certificates'] as { certificates: Record<string, string>; layout: never }
  const { kubelet } = (reading.layout as { components: { kubelet: { files: object[] } } }).components
  const lies = (name: string) => ({ path: at(name), real: at(name) })
  kubelet.files.push({ role: 'serving', by: '--any', ...lies('own.crt'), key: lies('own.key') })
  reading.certificates[at('own.crt')] = read('own.crt')
  const { lines, due } = await planned()
  t.deepEqual(due, [])
  t.regex(
    lines.join('\n'),
    /own\.crt: \S+own\.key is not its key.*\. No CA of the cluster has signed it: it is left as it is$/m,
  )
})

test('what new certificates would not mend is refused by name, before anything is changed', async t => {
  const one = await machine(t)
  writeFileSync(one.at('ca.key'), one.read('other.key'))
  t.like(await refused(t, one.planned()), { code: 'rescue.authority-pair' })

  const other = await machine(t)
  const reading = other.registered['read-the-certificates'] as { certificates: Record<string, string>; layout: never }
  const { kubelet } = (reading.layout as { components: { kubelet: { files: object[] } } }).components
  kubelet.files[1] = { role: 'client-ca', by: '--any', path: other.at('other.crt'), real: other.at('other.crt') }
  reading.certificates[other.at('other.crt')] = other.read('other.crt')
  const disagree = await refused(t, other.planned())
  t.is(disagree.code, 'rescue.authorities-disagree')
  t.regex(disagree.text, /m1:\S+other\.crt holds another CA \("CN=other"/)

  const foreign = await machine(t)
  await foreign.end('apiserver.crt', 'other.key')
  const ours = await refused(t, foreign.planned())
  t.is(ours.code, 'rescue.not-ours')
  t.regex(ours.text, /m1:\S+apiserver\.crt, which kube-apiserver goes by/)

  const half = await machine(t)
  const [seen] = (
    half.registered['look-for-certificates'] as { files: { real: string; certificates: string[] }[] }
  ).files.filter(({ real }) => real === half.at('kubelet.conf'))
  seen!.certificates = [half.read('other.crt')]
  const kubeconfig = await refused(t, half.planned())
  t.is(kubeconfig.code, 'rescue.authorities-disagree')
  t.regex(kubeconfig.text, /m1:\S+kubelet\.conf holds another CA \("CN=other"/)

  const short = await machine(t)
  const ca = short.read('ca.crt')
  await short.end('ca.crt')
  // One that somebody has signed for longer, in one file.
  for (const file of (
    short.registered['look-for-certificates'] as { files: { real: string; certificates: string[] }[] }
  ).files)
    if (file.real === short.at('kubelet.conf')) file.certificates = [ca]
  short.vars.ca_ttl = '240h'
  const shorter = await refused(t, short.planned())
  t.is(shorter.code, 'rescue.ca-ttl')
  t.regex(shorter.text, /^kubernetes-ca would be signed for 240h, and another file holds it until .* already/)
  short.vars.ca_ttl = '43800h'
  await t.notThrowsAsync(short.planned())

  const lost = await machine(t)
  await lost.end('ca.crt')
  writeFileSync(lost.at('ca.key'), '')
  // Only the CA's own file: a pair is refused before.
  const { components } = (
    lost.registered['read-the-certificates'] as { layout: { components: Record<string, unknown> } }
  ).layout
  delete components['kube-controller-manager']
  const keyless = await refused(t, lost.planned())
  t.is(keyless.code, 'preflight.no-key')
  t.regex(keyless.text, /no way but new CAs/)
})

test('a CA that somebody has signed anew in one file only is signed anew for all that hold it', async t => {
  const { read, planned, does, registered, at } = await machine(t)
  const seen = registered['look-for-certificates'] as { files: { real: string; certificates: string[] }[] }
  const short = await signAnew(read('ca.crt'), { ...past, signingKey: read('ca.key') })
  for (const file of seen.files) if (file.real === at('kubelet.conf')) file.certificates = [short]
  const old = Buffer.from(read('ca.crt')).toString('base64')
  writeFileSync(at('kubelet.conf'), read('kubelet.conf').replace(old, Buffer.from(short).toString('base64')))
  const { lines } = await planned()
  t.regex(lines.join('\n'), /^kubernetes-ca has ended on /m)
  for (const step of anew) await does(step)
  t.true(read('kubelet.conf').includes(Buffer.from(parseCertificate(read('ca.crt')).pem).toString('base64')))
})

test('an API server that does not answer is started anew, once; one that is ready is left alone', async t => {
  const { does, planned, end, cluster, started } = await machine(t)
  await end('apiserver.crt')
  await planned()
  for (const step of all) await does(step)
  cluster.ready = true
  await does(rescue.apiServers)
  t.deepEqual(started(), [])
  cluster.ready = false
  await does(rescue.apiServers)
  t.deepEqual(started(), ['restart --no-block kube-apiserver.service'])
  // It has a process that was started since, and is waited for.
  await does(rescue.apiServers)
  t.is(started().length, 1)
})

test('a run that is gone on with goes by what was found before the first change', async t => {
  const { does, planned, end, registered } = await machine(t)
  await end('apiserver.crt')
  await planned()
  for (const step of all) await does(step)
  const plan = registered['plan-the-certificates']
  await planned()
  t.is(registered['plan-the-certificates'], plan)
})
