// Roles and policy that fit the certificates of a cluster, the mounts of its CAs, and what templates are told.
import test from 'ava'
import { certificates } from '../../lib/kubernetes/layout/plan.ts'
import { refusals } from '../../lib/pki/role-check.ts'
import { authorityPlans, certificateData, issuingPolicy, roleName, vaultRoles } from '../../lib/pki/specs.ts'
import { kubeadmMachine } from '../kubernetes/layout/_kubeadm.ts'

const specs = certificates([
  kubeadmMachine('m1', { address: '10.0.0.1', master: true, superAdmin: true }),
  kubeadmMachine('m2', { address: '10.0.0.2', master: true }),
  kubeadmMachine('n1', { address: '10.0.0.3' }),
])

test.serial('one CA has one mount, three have one each, and only a key that must sign leaves Vault', t => {
  t.deepEqual(
    authorityPlans('one').map(plan => [plan.mount, plan.authorities.join('+'), plan.keyOnMasters]),
    [['pki_k8s', 'kubernetes+etcd+front-proxy', true]],
  )
  t.deepEqual(
    authorityPlans('three', { mount: 'pki' }).map(plan => [plan.mount, plan.keyOnMasters]),
    [
      ['pki', true],
      ['pki_etcd', false],
      ['pki_front_proxy', false],
    ],
  )
  t.false(authorityPlans('one', { controllerManagerSigns: false })[0]!.keyOnMasters)
})

test.serial('a cluster gets no CA for what it does not have', t => {
  const roles = ['kubernetes', 'etcd'] as const
  t.deepEqual(
    authorityPlans('three', { roles }).map(({ mount }) => mount),
    ['pki_k8s', 'pki_k8s_etcd'],
  )
  t.deepEqual(authorityPlans('one', { roles })[0]?.authorities, roles)
})

test.serial('a CA is told from the one before by its name', t => {
  const names = (count: 'one' | 'three') =>
    authorityPlans(count, { generation: '20261128-200656' }).map(({ commonName }) => commonName)
  t.deepEqual(names('three'), [
    'kubernetes-ca-20261128-200656',
    'etcd-ca-20261128-200656',
    'front-proxy-ca-20261128-200656',
  ])
  t.deepEqual(names('one'), ['kubernetes-ca-20261128-200656'])
})

test.serial('there is a role for each CA, usage and organization, and it allows no name beyond its certificates', t => {
  const roles = vaultRoles(specs, authorityPlans('three'), { ttl: '17520h' })
  t.deepEqual(
    roles.map(role => `${role.mount}/${role.name}`),
    [
      'pki_k8s/kubernetes-server',
      'pki_k8s/kubernetes-client-kubeadm-cluster-admins',
      'pki_k8s_etcd/etcd-client',
      'pki_k8s_front_proxy/front-proxy-client',
      'pki_k8s_etcd/etcd-server-client',
      'pki_k8s/kubernetes-client-system-masters',
      'pki_k8s/kubernetes-client',
      'pki_k8s/kubernetes-client-system-nodes',
      'pki_k8s/kubernetes-server-system-nodes',
    ],
  )
  const nodes = roles.at(-1)!.settings
  t.deepEqual(nodes.allowed_domains, ['m1', 'm2', 'n1'])
  t.deepEqual(nodes.organization, ['system:nodes'])
  t.true(nodes.server_flag)
  t.false(nodes.client_flag)
  t.false(roles.find(role => role.name === 'kubernetes-client')!.settings.allow_ip_sans)
  t.deepEqual(issuingPolicy(roles)[0], { path: 'pki_k8s/issue/kubernetes-server', capabilities: ['update'] })
})

test.serial(
  'each role is asked once whether it would issue, and each certificate that would not be issued is told',
  async t => {
    const plans = authorityPlans('three')
    const roles = vaultRoles(specs, plans, { ttl: '17520h' })
    const shared = roles.filter(({ name }) => specs.filter(spec => roleName(spec) === name).length > 1)
    const [short, gone] = shared.map(({ name }) => name)
    const read: string[] = []
    const readRole = async (_: string, name: string) => {
      read.push(name)
      const { settings } = roles.find(one => one.name === name)!
      return name === gone ? undefined : { ...settings, max_ttl: name === short ? 3_600 : 0 }
    }
    const told: unknown[] = []
    for await (const { spec, role, refused } of refusals({ readRole } as never, specs, plans, '17520h'))
      told.push([spec.id, role.split('/').at(-1), refused])
    t.deepEqual(read.toSorted(), roles.map(({ name }) => name).sort())
    t.deepEqual(
      told,
      specs
        .filter(spec => roleName(spec) === short || roleName(spec) === gone)
        .map(spec => [spec.id, roleName(spec), roleName(spec) === gone ? undefined : ['a TTL of 17520h']]),
    )
    t.true(told.length >= 4)
  },
)

test.serial('templates get the mount, the role and the names of a certificate', t => {
  const spec = specs.find(({ id }) => id === 'etcd-peer')
  t.is(roleName(spec!), 'etcd-server-client')
  t.deepEqual(certificateData(spec!, authorityPlans('three'), { ttl: '17520h' }), {
    Vault: { Mount: 'pki_k8s_etcd', Role: 'etcd-server-client' },
    Certificate: {
      CommonName: 'm1',
      DNSNames: ['localhost', 'm1'],
      IPAddresses: ['10.0.0.1', '127.0.0.1', '::1'],
      TTL: '17520h',
    },
  })
})
