// The script that looks at a host, on this machine with a folder of its own over /etc/kubernetes: what it finds, and that no secret leaves.
import 'reflect-metadata'
import { spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { discover } from '../../../lib/kubernetes/layout/discover.ts'
import { readFoundText } from '../../../lib/kubernetes/layout/found-text.ts'
import { ownMountsMissing } from '../../_mounts.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { withMounts } from '../census/_machine.ts'

const folder = mkdtempSync(join(tmpdir(), 'rekey-layout-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const run = ownMountsMissing() ? test.skip : test

run('reads processes, what they name, what that names, and what lies beside it; and no secret', async t => {
  const ca = await issue({ name: 'CN=kubernetes', ca: true })
  const leaf = await issue({ name: 'CN=leaf', issuer: ca })
  const etc = join(folder, 'etc')
  const elsewhere = join(folder, 'elsewhere')
  for (const one of [join(etc, 'ssl'), join(etc, 'manifests'), join(etc, 'configured'), elsewhere])
    mkdirSync(one, { recursive: true })
  const blob = (text: string) => Buffer.from(text).toString('base64')
  const keyBlob = blob(leaf.keyPem)
  symlinkSync('ssl', join(etc, 'pki'))
  writeFileSync(join(etc, 'ssl/ca.crt'), `${ca.pem}`)
  writeFileSync(join(etc, 'ssl/ca.key'), ca.keyPem, { mode: 0o600 })
  writeFileSync(join(etc, 'ssl/apiserver.crt.old'), leaf.pem)
  writeFileSync(join(etc, 'both.pem'), leaf.pem + leaf.keyPem)
  writeFileSync(join(elsewhere, 'peer.pem'), leaf.pem)
  writeFileSync(join(elsewhere, 'beside.pem'), leaf.pem)
  writeFileSync(
    join(etc, 'encryption.yaml'),
    'kind: EncryptionConfiguration\nresources:\n- providers:\n  - aescbc:\n      keys:\n      - secret: c2VjcmV0LW9mLWFlcw==\n',
  )
  writeFileSync(
    join(etc, 'kubeconfig'),
    `apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    server: https://x:6443\n    certificate-authority: ssl/ca.crt\ncontexts:\n- name: a\n  context: {cluster: c, user: u}\ncurrent-context: a\nusers:\n- name: u\n  user:\n    client-certificate-data: ${blob(leaf.pem)}\n    client-key-data: >-\n      ${keyBlob.slice(0, 60)}\n      ${keyBlob.slice(60)}\n    token: abc-the-token\n- name: v\n  user: {password: "the-pass", username: v}\n`,
  )
  writeFileSync(
    join(etc, 'configured/etcd.yml'),
    `data-dir: /var/lib/etcd\npeer-transport-security:\n  cert-file: ${elsewhere}/peer.pem\n`,
  )
  writeFileSync(join(etc, 'manifests/.hidden.yaml'), 'kind: Pod\n')
  writeFileSync(
    join(etc, 'manifests/kube-scheduler.yaml'),
    'apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command: [kube-scheduler, --kubeconfig=/etc/kubernetes/kubeconfig]\n',
  )
  mkdirSync(join(etc, 'pieces'))
  writeFileSync(join(etc, 'pieces/10.conf'), 'kind: KubeletConfiguration\ntlsCertFile: /etc/kubernetes/both.pem\n')
  const program = join(folder, 'etcd')
  copyFileSync('/bin/sh', program)
  const args = [
    '-c',
    'sleep 600; :',
    '--config-file=/etc/kubernetes/configured/etcd.yml',
    '--two',
    'words\nand lines',
    '--config-dir=/etc/kubernetes/pieces',
  ]
  const env = {
    ETCD_CERT_FILE: '/etc/kubernetes/both.pem',
    ETCD_PASSWORD: 'pass-of-etcd',
    HOME: '/',
    PATH: process.env['PATH'],
  }
  const child = spawn(program, args, { stdio: 'ignore', env, cwd: etc, detached: true })
  t.teardown(() => process.kill(-child.pid!, 'SIGKILL'))
  await delay(100)
  const { session, said } = await withMounts({ [etc]: '/etc/kubernetes' })
  // What runs this test is no unit.
  const error = await discover(session).catch((error: Error) => error)
  t.regex((error as Error).message, /^m1 runs etcd \(process \d+\)/)
  const [text = ''] = said
  const found = readFoundText(text)
  t.true(found.whole)
  const etcd = found.processes.find(({ pid }) => pid === child.pid)
  t.deepEqual(etcd?.words.slice(3), [
    '--config-file=/etc/kubernetes/configured/etcd.yml',
    '--two',
    'words and lines',
    '--config-dir=/etc/kubernetes/pieces',
  ])
  t.deepEqual(etcd?.environment, { ETCD_CERT_FILE: '/etc/kubernetes/both.pem' })
  const at = (path: string) => found.files.get(path)
  t.like(at('/etc/kubernetes/both.pem'), { key: 'private', certificates: [leaf.pem] })
  t.deepEqual(at('/etc/kubernetes/ssl/ca.crt')?.certificates, [ca.pem])
  t.like(at('/etc/kubernetes/ssl/ca.key'), { key: 'private', mode: 0o600, certificates: [], text: '' })
  t.deepEqual(at('/etc/kubernetes/ssl/apiserver.crt.old')?.certificates, [leaf.pem])
  t.deepEqual(at(`${elsewhere}/peer.pem`)?.certificates, [leaf.pem])
  t.deepEqual(at(`${elsewhere}/beside.pem`)?.certificates, [leaf.pem])
  t.is(at('/etc/kubernetes/manifests/.hidden.yaml'), undefined)
  t.regex(at('/etc/kubernetes/pieces/10.conf')?.text ?? '', /tlsCertFile/)
  t.regex(at('/etc/kubernetes/manifests/kube-scheduler.yaml')?.text ?? '', /kind: Pod/)
  t.regex(
    at('/etc/kubernetes/kubeconfig')?.text ?? '',
    /client-certificate-data: [\w+/=]+\n {4}client-key-data: ""\n {4}token: ""\n- name: v/,
  )
  for (const hidden of [
    'PRIVATE KEY',
    keyBlob.slice(0, 40),
    keyBlob.slice(70, 110),
    'abc-the-token',
    'the-pass',
    'c2VjcmV0',
    'pass-of-etcd',
  ]) {
    t.false(text.includes(hidden), hidden)
  }
})

run('finds the CAs that somebody had the whole machine trust, and none of those that came with it', async t => {
  const ca = await issue({ name: 'CN=etcd-ca', ca: true })
  const [own, brought] = ['own', 'brought'].map(name => join(folder, name)) as [string, string]
  for (const one of [own, brought]) {
    mkdirSync(one)
    writeFileSync(join(one, 'etcd-ca.crt'), ca.pem)
  }
  const mounts = { [own]: '/usr/local/share/ca-certificates', [brought]: '/usr/share/ca-certificates' }
  const { session, said } = await withMounts(mounts)
  // Whatever else runs on this machine.
  await discover(session).catch(() => undefined)
  const { files } = readFoundText(said[0] ?? '')
  t.deepEqual(files.get('/usr/local/share/ca-certificates/etcd-ca.crt')?.certificates, [ca.pem])
  t.is(files.get('/usr/share/ca-certificates/etcd-ca.crt'), undefined)
})
