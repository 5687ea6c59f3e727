// Who would write a Secret back is told by the marks that this leaves on it.
import test from 'ava'
import { ownersOf } from '../../lib/credentials/owners.ts'

const managedBy = (manager: string, field = 'f:data') => ({ managedFields: [{ manager, fieldsV1: { [field]: {} } }] })

for (const [metadata, owners] of [
  [{}, []],
  [managedBy('kubectl-create'), []],
  [{ labels: { 'app.kubernetes.io/instance': 'web', 'app.kubernetes.io/managed-by': 'me' } }, []],
  [{ ownerReferences: [{ kind: 'ExternalSecret', name: 'pull' }] }, ['ExternalSecret pull']],
  [{ ownerReferences: [{ kind: 'SealedSecret', name: 'pull' }] }, ['SealedSecret pull']],
  [{ labels: { 'reconcile.external-secrets.io/managed': 'true' } }, ['External Secrets']],
  [managedBy('externalsecrets.external-secrets.io/shop'), ['External Secrets']],
  [{ annotations: { 'sealedsecrets.bitnami.com/managed': 'true' } }, []],
  [{ annotations: { 'sealedsecrets.bitnami.com/cluster-wide': 'true' } }, ['Sealed Secrets']],
  [{ annotations: { 'argocd.argoproj.io/tracking-id': 'x' } }, ['Argo CD']],
  [managedBy('argocd-controller'), ['Argo CD']],
  [managedBy('argocd-controller', 'f:metadata'), []],
  [{ labels: { 'kustomize.toolkit.fluxcd.io/name': 'x' } }, ['Flux']],
  [{ annotations: { 'meta.helm.sh/release-name': 'x' } }, ['Helm']],
  [managedBy('Terraform'), ['Terraform']],
  [{ annotations: { 'reflector.v1.k8s.emberstack.com/reflects': 'a/b' } }, ['a copier of Secrets']],
  [{ annotations: { 'replicator.v1.mittwald.de/replicate-from': 'a/b' } }, ['a copier of Secrets']],
] as const)
  test(`${JSON.stringify(metadata)}: ${owners.join(', ') || 'nobody'}`, t => {
    t.deepEqual(ownersOf({ metadata: { name: 'pull', ...metadata } as never }), [...owners])
  })
