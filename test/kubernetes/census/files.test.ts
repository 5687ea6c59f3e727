// The census: certificates found in files, wherever users, links and flags have them, and no key with them.
import 'reflect-metadata'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { fileCertificates } from '../../../lib/kubernetes/census/files.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { ownMountsMissing } from '../../_mounts.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { localSession } from '../_local.ts'
import { blobOf, withMounts } from './_machine.ts'

const folder = mkdtempSync(join(tmpdir(), 'rekey-census-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const noNotice = (text: string) => {
  throw new Error(text)
}

test.serial(
  'finds every certificate, whatever its file is called, of kubeconfigs, and behind links, and takes no key along',
  async t => {
    const ca = await issue({ name: 'CN=kubernetes', ca: true })
    const leaf = await issue({ name: 'CN=leaf', issuer: ca })
    const pki = join(folder, 'files')
    mkdirSync(join(pki, 'pki'), { recursive: true })
    writeFileSync(join(pki, 'pki/apiserver.crt'), leaf.pem + ca.pem)
    writeFileSync(join(pki, 'pki/apiserver.key'), leaf.keyPem)
    writeFileSync(join(pki, 'pki/kubelet-client-2026.pem'), leaf.pem + leaf.keyPem)
    symlinkSync(join(pki, 'pki/kubelet-client-2026.pem'), join(pki, 'pki/kubelet-client-current.pem'))
    const blob = (text: string) => Buffer.from(text).toString('base64')
    writeFileSync(
      join(pki, 'admin.conf'),
      `apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts:\n- name: a\n  context: {cluster: c, user: u}\nclusters:\n- name: c\n  cluster:\n    server: https://x\n    certificate-authority-data: ${blob(ca.pem)}\nusers:\n- name: u\n  user:\n    client-certificate-data: ${blob(leaf.pem)}\n    client-key-data: ${blob(leaf.keyPem)}\n`,
    )
    writeFileSync(join(pki, 'other.conf'), 'nothing: here\n')
    // As a kubelet made by hand has it, and as the API server's own configuration has it.
    writeFileSync(
      join(pki, 'kubeconfig'),
      `{"clusters":[{"cluster":{"certificate-authority-data":"${blob(ca.pem)}"}}],"users":[{"user":{"client-key-data":"${blob(leaf.keyPem)}"}}]}`,
    )
    writeFileSync(
      join(pki, 'authentication.yaml'),
      `jwt:\n- issuer:\n    certificateAuthority: |\n${ca.pem.replaceAll(/^/gm, '      ')}`,
    )
    const machine = await localSession()
    const said: string[] = []
    const $ =
      (options: object) =>
      async (pieces: TemplateStringsArray, ...values: string[]) => {
        const result = await machine.$(options)(pieces, ...values)
        said.push(result.stdout)
        return result
      }
    const session = { ...machine, $ } as unknown as HostSession
    const told: string[] = []
    const all = await fileCertificates(session, text => void told.push(text), [pki, join(folder, 'not-there')])
    t.deepEqual(told, [`m1: there is no folder ${join(folder, 'not-there')}`])
    const found = all.filter(({ where }) => where.startsWith(`m1:${pki}`))
    t.deepEqual(
      found.map(({ where, facts }) => `${where.slice(`m1:${pki}`.length)} ${facts.commonName}`),
      [
        '/admin.conf kubernetes',
        '/admin.conf leaf',
        '/authentication.yaml kubernetes',
        '/kubeconfig kubernetes',
        '/pki/apiserver.crt leaf',
        '/pki/apiserver.crt kubernetes',
        '/pki/kubelet-client-2026.pem leaf',
        '/pki/kubelet-client-current.pem leaf',
      ],
    )
    t.true(said.join().includes('BEGIN CERTIFICATE'))
    t.notRegex(said.join(), /PRIVATE KEY|client-key-data/)
  },
)

const asRoot = process.getuid?.() === 0 ? test.serial : test.skip
asRoot('tells what it may not read, and goes on', async t => {
  const pki = join(folder, 'closed')
  mkdirSync(pki)
  chmodSync(folder, 0o755)
  const { pem } = await issue({ name: 'CN=a' })
  writeFileSync(join(pki, 'open.crt'), pem)
  writeFileSync(join(pki, 'closed.crt'), pem, { mode: 0o600 })
  const machine = await localSession()
  const $ = (options: object) => (_: TemplateStringsArray, script: string, folders: string[]) =>
    machine.$(options)`setpriv --reuid 65534 --clear-groups sh -c ${script} rekey ${folders}`
  const told: string[] = []
  const found = await fileCertificates({ ...machine, $ } as unknown as HostSession, text => void told.push(text), [pki])
  t.true(found.some(({ place }) => place === join(pki, 'open.crt')))
  t.regex(told.join('\n'), /m1: not everything may be read \(.*Permission denied.*\): .*; try --become/)
})

const mounting = ownMountsMissing() === undefined ? test.serial : test.skip
mounting(
  'kubeconfigs of everybody with a home are read, with what they lead to, and what kubectl remembers is not',
  async t => {
    const [ca, other] = await Promise.all(['kubernetes', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })))
    const ann = await issue({ name: 'CN=ann', issuer: ca! })
    const home = join(folder, 'homes')
    const write = (path: string, text: string) => {
      mkdirSync(dirname(join(home, path)), { recursive: true })
      writeFileSync(join(home, path), text)
    }
    const cluster = (name: string, fields: string) => `- name: ${name}\n  cluster:\n    ${fields}\n`
    write(
      'ann/.kube/config',
      `apiVersion: v1\nkind: Config\nclusters:\n${cluster('a', `certificate-authority-data: ${blobOf(ca!.pem)}\n    server: https://10.0.0.1:6443`)}${cluster('insecure', 'server: https://x')}${cluster('b', `server: https://other:6443\n    certificate-authority-data: ${blobOf(other!.pem)}`)}contexts:\n- context:\n    cluster: a\n    user: ann\n  name: a\nusers:\n- name: ann\n  user:\n    client-certificate-data: ${blobOf(ann.pem)}\n    client-key-data: ${blobOf(ann.keyPem)}\n    token: secret-token\n`,
    )
    write('ann/.kube/cache/discovery/ca.json', ca!.pem)
    write('ann/.kube/http-cache/ca', ca!.pem)
    write('ann/notes.pem', ca!.pem)
    // With paths, as clusters made by hand have them; relative ones, too.
    write(
      'bob/.kube/config',
      `clusters: [{cluster: {certificate-authority: ../pki/ca.pem, server: "https://10.0.0.2:6443"}, name: c}]\nusers: [{name: u, user: {client-certificate: ${join(home, 'bob/pki/bob.pem')}}}]\n`,
    )
    write('bob/pki/ca.pem', ca!.pem)
    write('bob/pki/bob.pem', ann.pem + ann.keyPem)
    const passwd = join(folder, 'passwd')
    writeFileSync(
      passwd,
      `root:x:0:0::${home}/nobody:/bin/sh\nann:x:1:1::${home}/ann:/bin/sh\nbob:x:2:2::${home}/bob:/bin/sh\nd:x:3:3::/:/bin/sh\nbroken\n`,
    )
    const { session, said } = await withMounts({ [passwd]: '/etc/passwd' })
    const found = (await fileCertificates(session, noNotice)).filter(({ place = '' }) => place.startsWith(home))
    t.deepEqual(
      found.map(({ place = '', facts, server, embedded }) => [
        place.slice(home.length),
        facts.commonName,
        server,
        embedded,
      ]),
      [
        ['/ann/.kube/config', 'kubernetes', 'https://10.0.0.1:6443', true],
        ['/ann/.kube/config', 'other', 'https://other:6443', true],
        ['/ann/.kube/config', 'ann', undefined, true],
        ['/bob/pki/bob.pem', 'ann', undefined, false],
        ['/bob/pki/ca.pem', 'kubernetes', 'https://10.0.0.2:6443', false],
      ],
    )
    t.notRegex(said.join(), /PRIVATE KEY|client-key|secret-token/)
    t.false(said.join().includes(blobOf(ann.keyPem).slice(100, 160)))
  },
)

test.serial(
  'folders that are links are followed once, wherever they lead, and links to everything are not',
  async t => {
    const { pem } = await issue({ name: 'CN=kubernetes', ca: true })
    const at = (path: string) => join(folder, 'links', path)
    const write = (path: string) => {
      mkdirSync(dirname(at(path)), { recursive: true })
      writeFileSync(at(path), pem)
    }
    write('etc/ssl/ca.crt')
    write('opt/pki/ca.crt')
    write('opt/pki/etcd/ca.crt')
    // As Kubespray has it, and as somebody has it who keeps them on another disk.
    symlinkSync('ssl', at('etc/pki'))
    symlinkSync(at('opt/pki'), at('etc/away'))
    symlinkSync(at('opt/pki'), at('etc/away-again'))
    symlinkSync('../opt/pki/etcd', at('etc/within'))
    symlinkSync('/', at('etc/everything'))
    symlinkSync('..', at('etc/ssl/up'))
    symlinkSync('nowhere', at('etc/dangling'))
    spawnSync('mkfifo', [at('etc/fifo')])
    symlinkSync('fifo', at('etc/linked-fifo'))
    const found = await fileCertificates(await localSession(), noNotice, [at('etc')])
    const mine = found.flatMap(({ place = '' }) => (place.startsWith(at('')) ? [place.slice(at('').length)] : []))
    t.true(mine.includes('/etc/ssl/ca.crt'))
    t.is(mine.filter(one => one.endsWith('ca.crt') && !one.includes('etcd')).length, 2, mine.join())
    t.is(mine.filter(one => one.includes('etcd/ca.crt') || one.includes('within/ca.crt')).length, 1, mine.join())
  },
)

test.serial('files that flags of running components name are read, and what they are used for is known', async t => {
  // Other tests look at this machine meanwhile: what runs here is not to have what they call their CA.
  const [ca, etcdCa] = await Promise.all(
    ['of flags', 'of etcd’s flags'].map(name => issue({ name: `CN=${name}`, ca: true })),
  )
  const at = (path: string) => join(folder, 'opt', path)
  mkdirSync(at('tls'), { recursive: true })
  for (const [name, { pem }] of Object.entries({ 'ca.pem': ca!, 'kubelet-ca.pem': ca!, 'etcd.pem': etcdCa! }))
    writeFileSync(at(`tls/${name}`), pem)
  writeFileSync(at('tls/unused.pem'), etcdCa!.pem)
  writeFileSync(
    at('kubelet.yaml'),
    `kind: KubeletConfiguration\nauthentication:\n  x509:\n    clientCAFile: "${at('tls/kubelet-ca.pem')}"\n`,
  )
  const running = (argv0: string, args: string[], env = {}) => {
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)', 'x', ...args], {
      argv0,
      cwd: at(''),
      env,
    })
    t.teardown(() => child.kill())
    return new Promise(resolve => child.once('spawn', resolve))
  }
  await running('/usr/local/bin/kube-apiserver', [
    `--client-ca-file=${at('tls/ca.pem')}`,
    '--etcd-cafile',
    'tls/etcd.pem',
  ])
  await running('kubelet', [`--config=${at('kubelet.yaml')}`, '--client-ca-file', at('not-there')])
  await running('etcd', [], { ETCD_TRUSTED_CA_FILE: at('tls/etcd.pem'), ETCD_NAME: 'x', SECRET: at('tls/unused.pem') })
  await running('/usr/bin/something-else', [`--ca-file=${at('tls/unused.pem')}`])
  const found = await fileCertificates(await localSession(), () => undefined)
  t.deepEqual(
    found
      .filter(({ place = '' }) => place.startsWith(at('')))
      .map(({ place = '', component, uses }) => [place.slice(at('tls/').length), component, ...(uses ?? [])]),
    [
      ['ca.pem', 'kube-apiserver', 'kube-apiserver client-ca-file'],
      ['etcd.pem', 'etcd', 'etcd trusted-ca-file', 'kube-apiserver etcd-cafile'],
      ['kubelet-ca.pem', 'kubelet', 'kubelet clientCAFile'],
    ],
  )
})

test.serial(
  'of files that hold keys on the same line, or whose certificate is cut off, no key comes along',
  async t => {
    const { pem, keyPem } = await issue({ name: 'CN=a' })
    const at = join(folder, 'mixed')
    mkdirSync(at)
    const files = {
      'one-line.json': JSON.stringify({
        key: keyPem,
        cert: pem + pem,
        more: { key: keyPem, cert: pem },
        token: 'secret-token',
      }),
      'indented.yaml': `key: |\n${keyPem.replaceAll(/^/gm, '  ')}\ncert: |\n${pem.replaceAll(/^/gm, '  ')}\ntoken: secret-token\n`,
      'cut-off.pem': pem.slice(0, 150) + keyPem,
      'cut-off-then-key.pem': `${pem.split('\n').slice(0, 3).join('\n')}\nc2VjcmV0LXRva2Vu\n`,
      'crlf.pem': (keyPem + pem).replaceAll('\n', '\r\n'),
    }
    for (const [name, text] of Object.entries(files)) writeFileSync(join(at, name), text)
    const { session, said } = await withMounts({})
    const found = await fileCertificates(session, noNotice, [at])
    t.deepEqual(
      found.flatMap(({ place = '', facts }) =>
        place.startsWith(at) ? [`${place.slice(at.length)} ${facts.commonName}`] : [],
      ),
      ['/crlf.pem a', '/indented.yaml a', '/one-line.json a'],
    )
    const body = keyPem.split('\n')[2]!
    t.false(said.join().includes(body.slice(0, 40)))
    t.notRegex(said.join(), /PRIVATE|secret-token|c2VjcmV0/)
  },
)

test.serial('where not everything came through, it is said', async t => {
  const machine = await localSession()
  const $ = () => async () => ({ stdout: '== /a\n-----BEGIN CERTIFICATE-----\n' })
  const missed: string[] = []
  await fileCertificates({ ...machine, $ } as unknown as HostSession, noNotice, [], text => void missed.push(text))
  t.deepEqual(missed, ['m1: not all certificates were read: the reading ended early'])
})
