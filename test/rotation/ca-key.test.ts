// A CA whose key signs the tokens of service accounts, too, as kubeasz has it.
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import type { FileRole, HostLayout, NamedFile } from '../../lib/kubernetes/layout/host-layout.ts'
import { kubeadmLayout } from '../../lib/kubernetes/layout/kubeadm/index.ts'
import type { StepContext } from '../../lib/playbook/model.ts'
import { caKey } from '../../lib/rotation/index.ts'
import { found, unit } from '../kubernetes/components/_host.ts'

const file = (role: FileRole, real: string, key?: string): NamedFile => ({
  ...{ role, by: 'x', path: `/etc/kubernetes/ssl/${real}`, real },
  ...(key !== undefined && { key: { path: key, real: key } }),
})
const kubeasz: HostLayout = {
  host: 'm1',
  components: {
    'kube-apiserver': found({
      component: 'kube-apiserver',
      runs: unit('kube-apiserver'),
      files: [
        file('client-ca', 'ca.pem'),
        file('service-account-verify', 'ca.pem'),
        file('service-account-sign', 'ca-key.pem'),
      ],
    }),
    'kube-controller-manager': found({
      component: 'kube-controller-manager',
      runs: unit('kube-controller-manager'),
      files: [file('signing', 'ca.pem', 'ca-key.pem'), file('service-account-sign', 'ca-key.pem')],
    }),
  },
}
const look = (layout: HostLayout, signs: boolean, rotate = false) => {
  const told: string[] = []
  caKey.checkKeyOfTheCa.run({
    host: { name: 'm1' },
    vars: { controller_manager_signs: signs, rotate_service_account_keys: rotate },
    registered: () => ({ layout }),
    log: (line: string) => told.push(line),
  } as unknown as StepContext<{ controller_manager_signs: boolean; rotate_service_account_keys: boolean }>)
  return told
}

test('it is refused where that key would stay in Vault, and told where tokens of before are to end', t => {
  t.regex(look(kubeasz, true, true)[0] ?? '', /^the key of the CA signs the tokens/)
  t.deepEqual(look(kubeasz, true), [])
  const error = t.throws<RekeyError>(() => look(kubeasz, false))
  t.is(error?.code, 'preflight.ca-key-signs-tokens')
  t.regex(error?.hint ?? '', /controller_manager_signs/)
})

test('where service accounts have a key of their own, nothing is said', t => {
  t.deepEqual(look(kubeadmLayout('m1', true), true), [])
  t.deepEqual(look(kubeadmLayout('m1', true), false), [])
})
