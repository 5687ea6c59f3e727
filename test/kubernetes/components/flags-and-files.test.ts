// Flags changed and files written on a host, by what a component was found to have.
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { fileOf, readComponentFile, writeComponentFile } from '../../../lib/kubernetes/components/files.ts'
import { flagFilesOf, plannedFlags, updateFlags } from '../../../lib/kubernetes/components/flags.ts'
import { backedUp, measuredForBackups, stagingFolders, withoutLinks } from '../../../lib/kubernetes/components/kept.ts'
import type { FlagEditor } from '../../../lib/kubernetes/components/static-pods.ts'
import type { HostLayout, NamedFile } from '../../../lib/kubernetes/layout/host-layout.ts'
import { kubeadmLayout } from '../../../lib/kubernetes/layout/kubeadm/index.ts'
import { PlannedWrite } from '../../../lib/playbook/model.ts'
import { found, localHost, staticPod, unit } from './_host.ts'

const served = (flags: FlagEditor) => {
  flags.flag('tls-cert-file', '/pki/s.crt')
  flags.mountReadOnly('k8s-certs', '/pki')
}
const manifest = `apiVersion: v1
kind: Pod
metadata:
  name: kube-scheduler
spec:
  containers:
  - command:
    - kube-scheduler
    name: kube-scheduler
  volumes:
  - name: k8s-certs
    hostPath:
      path: /other
`

test('the flags of a static pod are planned, then written to its manifest, and then there is nothing to do', async t => {
  const { session, folder } = await localHost(t)
  const path = join(folder, 'kube-scheduler.yaml')
  writeFileSync(path, manifest)
  const scheduler = found({ component: 'kube-scheduler', runs: staticPod(path) })
  t.deepEqual(flagFilesOf(scheduler), [path])
  const [planned, ...others] = await plannedFlags(session, scheduler, served)
  t.is(others.length, 0)
  t.true(planned instanceof PlannedWrite)
  t.is(readFileSync(path, 'utf8'), manifest, 'a plan only looks')
  t.true(await updateFlags(session, scheduler, served))
  const text = readFileSync(path, 'utf8')
  t.is((planned as PlannedWrite).content, text)
  t.regex(text, /- --tls-cert-file=\/pki\/s\.crt/)
  t.regex(text, /- name: rekey-k8s-certs\n\s+mountPath: \/pki/, 'two volumes of one name are no pod')
  t.is(statSync(path).mode & 0o777, 0o600)
  t.false(await updateFlags(session, scheduler, served))
  t.deepEqual(await plannedFlags(session, scheduler, served), [])
})

test('those of a unit are written where its environment has them, as its owner left that file, and systemd reads it again', async t => {
  const { session, folder } = await localHost(t)
  const environment = join(folder, 'etcd.env')
  writeFileSync(environment, 'ETCD_CERT_FILE=/old\n', { mode: 0o640 })
  writeFileSync(join(folder, 'unit'), `[Service]\nEnvironmentFile=${environment}\nExecStart=/usr/local/bin/etcd\n`)
  const etcd = found({ component: 'etcd', runs: unit('etcd', { environmentFiles: [environment, '/none/optional'] }) })
  t.deepEqual(flagFilesOf(etcd).slice(0, 1), [environment])
  t.regex(flagFilesOf(etcd).at(-1) ?? '', /^\/etc\/systemd\/system\/etcd\.service\.d\/.*rekey\.conf$/)
  const change = (flags: FlagEditor) => flags.flag('cert-file', '/new')
  const planned = await plannedFlags(session, etcd, change)
  t.is(planned[1], 'systemctl daemon-reload')
  t.true(await updateFlags(session, etcd, change))
  t.is(readFileSync(environment, 'utf8'), 'ETCD_CERT_FILE=/new\n')
  t.is(statSync(environment).mode & 0o777, 0o640)
  t.is(readFileSync(join(folder, 'told'), 'utf8'), 'daemon-reload\n')
  t.false(await updateFlags(session, etcd, change))
  t.is(readFileSync(join(folder, 'told'), 'utf8'), 'daemon-reload\n', 'nothing to read again')
})

test('a pod that the API made has its flags elsewhere', async t => {
  const { session } = await localHost(t)
  await t.throwsAsync<RekeyError>(
    () => updateFlags(session, found({ component: 'kube-proxy', runs: { kind: 'pod' } }), served),
    { code: 'component.no-flags' },
  )
})

test('a file is read and written by what it is to its component, through links, with its mode', async t => {
  const { session, folder } = await localHost(t)
  const [path, real] = [join(folder, 'ca.crt'), join(folder, 'real.crt')]
  writeFileSync(real, 'old', { mode: 0o640 })
  symlinkSync(real, path)
  const files: NamedFile[] = [
    { role: 'client-ca', by: '--client-ca-file', path: '/before', real: '/before' },
    { role: 'client-ca', by: '--client-ca-file', path, real },
  ]
  const api = found({ component: 'kube-apiserver', runs: unit('kube-apiserver'), files })
  t.is(fileOf(api, 'client-ca')?.path, path, 'the last one counts')
  t.is(await readComponentFile(session, api, 'client-ca'), 'old')
  await writeComponentFile(session, api, 'client-ca', 'new')
  t.is(readFileSync(real, 'utf8'), 'new')
  t.is(statSync(real).mode & 0o777, 0o640)
  t.true(existsSync(path) && readFileSync(path, 'utf8') === 'new')
  const error = await t.throwsAsync<RekeyError>(async () => readComponentFile(session, api, 'front-proxy-ca'))
  t.is(error?.message, 'kube-apiserver on m1 names no file for front-proxy-ca')
})

const byUnits: HostLayout = {
  host: 'm1',
  components: {
    etcd: found({
      component: 'etcd',
      runs: unit('etcd', { definition: ['/etc/systemd/system/etcd.service'], environmentFiles: ['/etc/etcd.env'] }),
      flags: { 'data-dir': ['/data/etcd'] },
      files: [
        { role: 'client-ca', by: 'x', path: '/etc/etcd/ca.crt', real: '/var/lib/kubernetes/ca.crt' },
        {
          role: 'serving',
          by: 'x',
          path: '/data/s.crt',
          real: '/data/s.crt',
          key: { path: '/data/s.key', real: '/data/s.key' },
        },
      ],
    }),
    kubelet: found({
      component: 'kubelet',
      runs: unit('kubelet'),
      files: [
        { role: 'client', by: 'x', path: '/var/lib/kubelet/kubelet.crt', real: '/var/lib/kubelet/kubelet.crt' },
        { role: 'client', by: 'x', path: '/etc/kubernetes/ssl/k.pem', real: '/etc/kubernetes/ssl/k.pem' },
      ],
    }),
  },
}

test('what kubeadm made is backed up and measured as ever', t => {
  const layout = kubeadmLayout('m1', true)
  t.deepEqual(backedUp(layout), ['/etc/kubernetes', '/var/lib/kubelet/pki', '/var/lib/kubelet/config.yaml'])
  t.deepEqual(stagingFolders(layout), ['/etc/kubernetes', '/var/lib/kubelet'])
  t.is(measuredForBackups(layout).at(-1), '/var/lib/etcd/member/snap/db')
})

test('elsewhere whole folders of keys are kept, and of those that hold more, what is named', t => {
  t.deepEqual(backedUp(byUnits, ['/root/admin.kubeconfig']).toSorted(), [
    '/data/s.crt',
    '/data/s.key',
    '/etc/etcd',
    '/etc/etcd.env',
    '/etc/kubernetes',
    '/etc/systemd/system/etcd.service',
    '/root/admin.kubeconfig',
    '/var/lib/kubelet/config.yaml',
    '/var/lib/kubelet/kubelet.crt',
    '/var/lib/kubelet/pki',
    '/var/lib/kubernetes',
  ])
  t.deepEqual(stagingFolders(byUnits).toSorted(), [
    '/data',
    '/etc/etcd',
    '/etc/kubernetes',
    '/var/lib/kubelet',
    '/var/lib/kubernetes',
  ])
  t.is(measuredForBackups(byUnits).at(-1), '/data/etcd/member/snap/db')
})

test('of a folder that is a link, what lies behind it is kept, once', async t => {
  const { session, folder } = await localHost(t)
  mkdirSync(join(folder, 'ssl'))
  symlinkSync(join(folder, 'ssl'), join(folder, 'pki'))
  symlinkSync('a.pem', join(folder, 'ssl/current.pem'))
  t.deepEqual(
    await withoutLinks(session, [
      join(folder, 'pki/ca.crt'),
      join(folder, 'ssl/ca.crt'),
      join(folder, 'pki/current.pem'),
    ]),
    [join(folder, 'ssl/ca.crt'), join(folder, 'ssl/current.pem')],
  )
})
