// Whom users are to trust, and which CA lets them in, while one CA follows another.
import test from 'ava'
import { clientAccess } from '../../../lib/kubernetes/keysets/client-access.ts'
import { discoveredFrom } from '../../../lib/kubernetes/layout/discover.ts'
import { publicKeyOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { type Issued, issue } from '../../pki/certificates/_certificates.ts'
import { foundText, kubeadmMaster, kubeconfig, type Machine, together } from '../layout/_found.ts'

const day = 86_400_000
const authority = (name: string, begins: number, ends = 300) =>
  issue({
    ...{ name: `CN=${name}`, ca: true },
    notBefore: new Date(Date.now() + begins * day),
    notAfter: new Date(Date.now() + ends * day),
  })
const [old, next, kubelets, expired] = (await Promise.all([
  authority('kubernetes', -100),
  authority('kubernetes', -1),
  authority('kubelets', -50),
  authority('kubernetes', -300, -1),
])) as [Issued, Issued, Issued, Issued]

const pki = '/etc/kubernetes/pki'
const text = (all: readonly Issued[]) => all.map(({ pem }) => pem).join('')

/** kubeadm's master: whom its servers trust, the first of whom signs there, and whom its kubeconfigs trust. */
function master(host: string, servers: readonly Issued[], clients: readonly Issued[], more: Machine['files'] = {}) {
  const config = kubeconfig('system:x').replace('AA==', Buffer.from(text(clients)).toString('base64'))
  const files: Machine['files'] = {
    [`${pki}/ca.crt`]: { text: text(servers) },
    [`${pki}/ca.key`]: { key: 'private' },
    ...Object.fromEntries(
      ['kubelet', 'controller-manager', 'scheduler'].map(name => [`/etc/kubernetes/${name}.conf`, { text: config }]),
    ),
    ...more,
  }
  return { host, found: discoveredFrom(foundText(together(kubeadmMaster, { files })), host) }
}

const access = (...args: Parameters<typeof clientAccess> extends [infer H, infer S, unknown] ? [H, S?] : never) =>
  clientAccess(args[0], args[1] ?? [], () => undefined)
const said = (where: string, ...all: Issued[]) => ({ where, bundle: text(all) })

test('at rest it is the one CA, which signs', t => {
  const found = access([master('m1', [old], [old]), master('m2', [old], [old])], [said('ConfigMap', old)])!
  t.is(found.bundle, old.pem)
  t.is(found.signs?.key, publicKeyOf(old.pem))
  t.deepEqual([found.missingFrom, found.behind], [[], []])
})

test('while both stand both are in it, what signs first, and who lacks one is named', t => {
  const staged = access(
    [master('m1', [old, next], [old, next]), master('m2', [old, next], [old])],
    [said('ConfigMap', next)],
  )!
  t.is(staged.bundle, old.pem + next.pem)
  t.is(staged.signs?.key, publicKeyOf(old.pem))
  t.deepEqual(staged.behind.toSorted(), [
    'ConfigMap',
    ...['controller-manager', 'kubelet', 'scheduler'].map(name => `m2:/etc/kubernetes/${name}.conf`),
  ])
  const promoted = access([master('m1', [next, old], [next, old])])!
  t.is(promoted.bundle, next.pem + old.pem)
  t.is(promoted.signs?.key, publicKeyOf(next.pem))
})

test('a CA that is distrusted, or has expired, is not in it, and servers that lack what signs are named', t => {
  const found = access([master('m1', [next], [next]), master('m2', [old], [next, expired])], [said('ConfigMap', next)])!
  t.is(found.bundle, next.pem)
  const other = found.signs?.key === publicKeyOf(next.pem) ? 'm2' : 'm1'
  t.deepEqual(found.missingFrom, [`${other}:${pki}/ca.crt`])
})

test('what only servers trust, or clients of kubelets, is none of users’', t => {
  const found = access([master('m1', [old, kubelets], [old])])!
  t.is(found.bundle, old.pem)
  t.is(access([{ host: 'm1', found: undefined }], []), undefined)
})
