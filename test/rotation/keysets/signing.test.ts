// Which pair a controller-manager is given of its own, where it signs with a file by which others are trusted, and that it is given none elsewhere.
import test from 'ava'
import { ownPairOf, togetherAgain } from '../../../lib/rotation/keysets/cluster/signing-apart.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'

/** A run about the cluster's CA, and a controller-manager of m1 that is started with these flags. */
function contextWith(flags: Record<string, string>, trusted: readonly string[]) {
  const at = (path: string) => ({ path, real: path })
  const signing = Object.entries(flags).flatMap(([name, path]) => {
    const key = flags[name.replace('cert-file', 'key-file')]
    return name.endsWith('cert-file') && key ? [{ role: 'signing', by: `--${name}`, ...at(path), key: at(key) }] : []
  })
  const component = {
    component: 'kube-controller-manager',
    flags: Object.fromEntries(Object.entries(flags).map(([name, path]) => [name, [path]])),
    files: [{ role: 'root-ca', by: '--root-ca-file', ...at('/pki/ca.crt') }, ...signing],
  }
  const state = {
    ...{ name: 'kubernetes-ca', authority: 'kubernetes', items: [], uses: [], unread: [] },
    bundles: { m1: Object.fromEntries(trusted.map(path => [path, []])) },
  }
  const layout = { host: 'm1', components: { 'kube-controller-manager': component } }
  return {
    host: { name: 'm1' },
    registered: (step: string) => (step === lookStep ? [state] : { host: 'm1', layout }),
  } as never
}

test('who signs with the file of the CA gets the same pair beside it, whatever files are called', t => {
  const ours = contextWith(
    {
      'cluster-signing-cert-file': '/pki/ca.crt',
      'cluster-signing-key-file': '/pki/ca.key',
      'cluster-signing-kubelet-client-cert-file': '/pki/ca.crt',
      'cluster-signing-kubelet-client-key-file': '/pki/ca.key',
    },
    ['/pki/ca.crt'],
  )
  const own = ownPairOf(ours, 'm1')
  t.deepEqual(own?.flags, {
    'cluster-signing-cert-file': '/pki/ca-signing.crt',
    'cluster-signing-key-file': '/pki/ca-signing.key',
    'cluster-signing-kubelet-client-cert-file': '/pki/ca-signing.crt',
    'cluster-signing-kubelet-client-key-file': '/pki/ca-signing.key',
  })
  t.deepEqual(own?.from, { key: '/pki/ca.key' })
  t.deepEqual(own?.to, { certificate: '/pki/ca-signing.crt', key: '/pki/ca-signing.key' })
  const pem = contextWith(
    { 'cluster-signing-cert-file': '/ssl/ca.pem', 'cluster-signing-key-file': '/ssl/ca-key.pem' },
    ['/ssl/ca.pem'],
  )
  t.deepEqual(ownPairOf(pem, 'm1')?.to, { certificate: '/ssl/ca-signing.pem', key: '/ssl/ca-signing-key.pem' })
})

test('who signs with a file by which nobody is trusted keeps it, and so does who signs with none', t => {
  const apart = { 'cluster-signing-cert-file': '/pki/signer.crt', 'cluster-signing-key-file': '/pki/signer.key' }
  t.is(ownPairOf(contextWith(apart, ['/pki/ca.crt']), 'm1'), undefined)
  t.is(ownPairOf(contextWith({}, ['/pki/ca.crt']), 'm1'), undefined)
})

test('a pair that was given to it leads back to the file of the CA, and no other does', t => {
  for (const [certificate, key, to] of [
    ['/pki/ca-signing.crt', '/pki/ca-signing.key', { certificate: '/pki/ca.crt', key: '/pki/ca.key' }],
    ['/ssl/ca-signing.pem', '/ssl/ca-signing-key.pem', { certificate: '/ssl/ca.pem', key: '/ssl/ca-key.pem' }],
  ] as const) {
    const ctx = contextWith({ 'cluster-signing-cert-file': certificate, 'cluster-signing-key-file': key }, [
      to.certificate,
    ])
    const back = togetherAgain(ctx, 'm1')
    t.deepEqual(back?.to, to)
    t.deepEqual(back?.flags, {
      'cluster-signing-cert-file': to.certificate,
      'cluster-signing-key-file': to.key,
    })
  }
  const other = {
    'cluster-signing-cert-file': '/pki/our-signing.crt',
    'cluster-signing-key-file': '/pki/our-signing.key',
  }
  t.is(togetherAgain(contextWith(other, ['/pki/ca.crt']), 'm1'), undefined)
})
