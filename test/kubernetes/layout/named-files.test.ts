// Which files flags name, where they are given more than once.
import test from 'ava'
import { namedByFlags } from '../../../lib/kubernetes/layout/named-files.ts'

test('of a flag that is given twice the last counts, as for the component; keys of tokens are all known', t => {
  const flags = {
    'client-ca-file': ['/old/ca.crt', '/new/ca.crt'],
    'tls-cert-file': ['/old/server.crt', '/new/server.crt'],
    'tls-private-key-file': ['/old/server.key', '/new/server.key'],
    'service-account-key-file': ['/one.pub', '/other.pub'],
  }
  const places = { hostPath: (path: string) => path, real: (path: string) => path, exists: () => false }
  const files = namedByFlags('kube-apiserver', flags, flag => `--${flag}`, places)
  t.deepEqual(
    files.map(({ role, path, key }) => [role, path, key?.path]),
    [
      ['serving', '/new/server.crt', '/new/server.key'],
      ['client-ca', '/new/ca.crt', undefined],
      ['service-account-verify', '/one.pub', undefined],
      ['service-account-verify', '/other.pub', undefined],
    ],
  )
})
