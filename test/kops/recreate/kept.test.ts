// What recreate-kops-credentials deletes and puts back: credentials of the cluster, and nothing beside them.
import test from 'ava'
import { isCredential } from '../../../lib/kops/recreate/given.ts'

test('no path leads out of the credentials of the cluster', t => {
  for (const path of ['c/pki/private/ca/keyset.yaml', 'c/pki/issued/ca/1.crt', 'c/secrets/admin'])
    t.true(isCredential(path, 'c'), path)
  for (const path of [
    'c/secrets/../../d/x',
    '../c/secrets/x',
    '/c/secrets/x',
    'd/secrets/x',
    'c/pki/ssh/x',
    'c/config',
    'c/secrets//x',
  ])
    t.false(isCredential(path, 'c'), path)
})
