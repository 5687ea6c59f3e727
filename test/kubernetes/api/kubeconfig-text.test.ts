// Kubeconfigs that are handed to people, and theirs with the trust of now.
import test from 'ava'
import { readKubeconfig } from '../../../lib/kubernetes/api/kubeconfig.ts'
import { clustersOf, kubeconfigText, withTrust } from '../../../lib/kubernetes/api/kubeconfig-text.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

const [old, next, other] = await Promise.all(
  ['old', 'next', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })),
)
const base64 = (text: string) => Buffer.from(text).toString('base64')
const reached = { name: 'production', server: 'https://api.example.org:6443', bundle: next!.pem + old!.pem }

test('one that is made leads to the cluster as whom it is for, with every CA', t => {
  const user = { name: 'jane: "x"', certificate: 'CERTIFICATE\n', key: 'KEY\n' }
  const facts = readKubeconfig(kubeconfigText(reached, user), 'made')
  t.like(facts, {
    server: reached.server,
    ca: reached.bundle,
    cluster: 'production',
    ...user,
    user: user.name,
    name: undefined,
  })
  t.is(facts.context, 'jane: "x"@production')
})

test('one without credentials has the cluster alone', t => {
  const text = kubeconfigText(reached)
  t.deepEqual(clustersOf(text, 'made'), [
    { name: 'production', server: reached.server, authorities: [next!.pem, old!.pem] },
  ])
  t.notRegex(text, /user:|client-/)
})

const theirs = `# mine
apiVersion: v1
clusters:
- cluster: {certificate-authority-data: ${base64(old!.pem)}, server: "https://10.0.0.1:6443"}
  name: a
- cluster:
    server: https://elsewhere:6443
    certificate-authority-data: "${base64(other!.pem)}" # theirs
  name: b
users:
- name: me
  user: {token: abc}
`

test('somebody’s file keeps every byte but those of the bundle that is meant', t => {
  const { text, clusters } = withTrust(theirs, 'mine', reached.bundle, ({ name }) => name === 'a')
  t.deepEqual(clusters, ['a'])
  t.is(text, theirs.replace(base64(old!.pem), base64(reached.bundle)))
  t.deepEqual(withTrust(text, 'mine', reached.bundle, ({ name }) => name === 'a').text, text)
})

test('a CA that lies in a file, and no verification at all, give way to the bundle; credentials and other clusters stay', t => {
  for (const trust of ['certificate-authority: /etc/old.crt', 'insecure-skip-tls-verify: true']) {
    const file = theirs.replace(`certificate-authority-data: ${base64(old!.pem)}`, trust)
    const { text } = withTrust(file, 'mine', reached.bundle, ({ server }) => server === 'https://10.0.0.1:6443')
    t.deepEqual(clustersOf(text, 'mine'), [
      { name: 'a', server: 'https://10.0.0.1:6443', authorities: [next!.pem, old!.pem] },
      { name: 'b', server: 'https://elsewhere:6443', authorities: [other!.pem] },
    ])
    t.notRegex(text, /old\.crt|insecure/)
    t.regex(text, /token: abc/)
  }
})

test('where no cluster is meant nothing is changed; what is no kubeconfig is said without a word of it', t => {
  t.deepEqual(
    withTrust(theirs, 'mine', reached.bundle, () => false),
    { text: theirs, clusters: [] },
  )
  const error = t.throws(() => withTrust('a: [secret', 'mine', reached.bundle, () => true))
  t.is(error?.message, 'mine is no kubeconfig')
  t.throws(() => clustersOf('- a', 'mine'), { message: 'mine is no kubeconfig' })
})
