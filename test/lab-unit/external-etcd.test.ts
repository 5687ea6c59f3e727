// What a lab as Kubespray makes clusters has of etcd: certificates, and one name for every API server's.
import { execFileSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { etcdCertificates, links } from '../../lib/lab/cluster/layouts/external-etcd.ts'
import { shapeOf } from '../../lib/lab/shape.ts'
import { temporaryFolder } from '../_temporary.ts'

const shape = (masters: number, etcdHosts: number) =>
  shapeOf({ name: 'test', masters, nodes: 1, layout: 'external-etcd', etcdHosts }, '10.201.7.0/24')

test('each pair of etcd is under its own CA, good for both sides, and knows all members', t => {
  const folder = temporaryFolder('external-etcd')
  const script = etcdCertificates(shape(1, 0)).replaceAll('/etc/ssl/etcd', folder)
  execFileSync('sh', ['-euc', `mkdir ${folder}/ssl; ${script}`], { stdio: 'pipe' })
  const pairs = ['admin-m1', 'member-m1', 'node-m1', 'node-n1'].flatMap(name => [`${name}-key.pem`, `${name}.pem`])
  t.deepEqual(readdirSync(join(folder, 'ssl')).sort(), [...pairs, 'ca-key.pem', 'ca.pem'].sort())
  const read = (name: string) => new X509Certificate(readFileSync(join(folder, 'ssl', `${name}.pem`)))
  const ca = read('ca')
  t.deepEqual([ca.subject, ca.ca], ['CN=etcd-ca', true])
  for (const [name, subject] of [
    ['member-m1', 'CN=etcd-member-m1'],
    ['admin-m1', 'CN=etcd-admin-m1'],
    ['node-n1', 'CN=etcd-node-n1'],
  ] as const) {
    const leaf = read(name)
    t.true(leaf.verify(ca.publicKey))
    t.is(leaf.subject, subject)
    t.deepEqual(leaf.keyUsage, ['1.3.6.1.5.5.7.3.2', '1.3.6.1.5.5.7.3.1'])
    t.is(
      leaf.subjectAltName,
      'DNS:localhost, DNS:m1, DNS:etcd.kube-system.svc.cluster.local, DNS:etcd.kube-system.svc, DNS:etcd.kube-system, DNS:etcd, IP Address:10.201.7.101, IP Address:10.201.7.101, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1',
    )
  }
})

test("masters without etcd have their own pair under every master's name", t => {
  const apart = shape(3, 1)
  const of = (name: string) => links(apart, apart.machines.find(machine => machine.name === name)!).split('; ')
  t.deepEqual(of('m2'), [
    'ln -s /etc/ssl/etcd/ssl/node-m2.pem /etc/ssl/etcd/ssl/node-m1.pem',
    'ln -s /etc/ssl/etcd/ssl/node-m2-key.pem /etc/ssl/etcd/ssl/node-m1-key.pem',
    'ln -s /etc/ssl/etcd/ssl/node-m2.pem /etc/ssl/etcd/ssl/node-m3.pem',
    'ln -s /etc/ssl/etcd/ssl/node-m2-key.pem /etc/ssl/etcd/ssl/node-m3-key.pem',
  ])
  t.deepEqual(of('n1'), [''])
})
