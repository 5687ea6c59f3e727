// Whose certificate servers are shown when they are asked whom they let in: in each of its roles a CA may have clients of another kind.
import test from 'ava'
import { planStep } from '../../../lib/rotation/given/found.ts'
import { currentVisitor } from '../../../lib/rotation/keysets/credentials.ts'

const pair = (name: string) => ({ kind: 'pair', certificate: `/pki/${name}.crt`, key: `/pki/${name}.key` })

/** A certificate of one master, by its id, signed by the cluster's own CA, which has other roles, too. */
const spec = (id: string, component: string, commonName: string, more: object = {}) => ({
  ...{ id, component, commonName, place: pair(id), authority: 'kubernetes', hosts: ['m1'], organizations: [] },
  ...{ usages: ['serverAuth', 'clientAuth'], dnsNames: [], ipAddresses: [], ...more },
})

const specs = [
  spec('apiserver', 'kube-apiserver', 'kubernetes'),
  // One that is a client and nothing else, as most of the cluster's own are: named for a host, if at all, that asks no member of etcd.
  spec('apiserver-kubelet-client', 'kube-apiserver', 'kubelet-client', { usages: ['clientAuth'] }),
  spec('etcd-server', 'etcd', 'kubernetes'),
  spec('front-proxy-client', 'kube-apiserver', 'aggregator', { usages: ['clientAuth'] }),
]

/** The certificate that is shown in a role, by where it lies, and whom it names. */
async function shown(authority: string, planned: readonly object[] = specs): Promise<readonly [string, string]> {
  const master = { name: 'm1', groups: ['masters'] }
  const { credential, user } = await currentVisitor(
    {
      ...{ hosts: () => [master], host: master, redact: () => {}, vars: {} },
      on: async () => ({ host: master, files: { readText: async (path: string) => path } }),
      registered: (step: string) =>
        step === planStep ? { specs: planned } : { host: 'm1', layout: { host: 'm1', components: {} } },
    } as never,
    { name: 'kubernetes-ca', authority, authorities: ['kubernetes', 'etcd', 'front-proxy'] } as never,
  )
  return [credential?.certificate ?? '', user]
}

test('of a CA that serves several roles each server is shown a client as it knows them: members of etcd one of etcd’s, others a proxy', async t => {
  t.deepEqual(await shown('kubernetes'), ['/pki/apiserver-kubelet-client.crt', 'kubelet-client'])
  t.deepEqual(await shown('etcd'), ['/pki/etcd-server.crt', 'kubernetes'])
  t.deepEqual(await shown('front-proxy'), ['/pki/front-proxy-client.crt', 'rekey-probe'])
})

test('what API servers show members of etcd, and is no server’s, comes before what members present', async t => {
  const client = spec('apiserver-etcd-client', 'kube-apiserver', 'etcd-client', { usages: ['clientAuth'] })
  t.deepEqual(await shown('etcd', [...specs, client]), ['/pki/apiserver-etcd-client.crt', 'etcd-client'])
})

test('where none is of a role, that of any will do', async t => {
  t.deepEqual(await shown('etcd', specs.slice(0, 2)), ['/pki/apiserver-kubelet-client.crt', 'kubelet-client'])
})
