// The legacy procedure of kOps: every credential deleted and made anew, every instance replaced at once. What its playbook is made of, its way back,
// and what it tells at its end.
import type { RenewedTokens } from '../../kubernetes/trust/renewed-tokens.ts'
import type { Play, ReportSection, RunContext } from '../../playbook/model.ts'
import { step } from '../../playbook/model.ts'
import { kubeconfigFile } from '../asked/places.ts'
import type { KopsServices } from '../context.ts'
import { nothingPending } from '../preflight.ts'
import { ended } from '../report.ts'
import type { CredentialsBefore } from './credentials.ts'
import { putBack, updateBack } from './credentials.ts'
import { removeEtcdCertificatesBack, seeEtcdCertificates } from './etcd-certificates.ts'
import type { Recreation, Variables } from './given.ts'
import { answersBack, exportBack, replaceInstancesBack, validAgain } from './instances.ts'
import { back } from './tokens.ts'

export {
  confirmed,
  deleteCredentials,
  keepCredentials,
  makeCredentials,
  readCredentials,
} from './credentials.ts'
export { findEtcdCertificates, removeEtcdCertificates, seeEtcdCertificates } from './etcd-certificates.ts'
export { type Recreation, recreateVariables } from './given.ts'
export { answersNew, exportNew, replaceInstances, validAgain } from './instances.ts'
export { asBefore, dns, network, notePods, notePodsOfBefore, others, tokens } from './tokens.ts'

/** What undoes it: the same procedure with the credentials of before. Where nobody was cut off yet, nobody is by it. */
export const wayBack: NonNullable<Play<Recreation>['rollback']> = [
  step('Put back every key pair and secret', putBack),
  step('Update the cluster', updateBack),
  step('Remove the certificates of etcd', removeEtcdCertificatesBack),
  step('Replace every instance', replaceInstancesBack),
  step('Export a kubeconfig of the CA of before', exportBack),
  step('The API answers', answersBack),
  step('Write every token anew', back.tokens),
  step('Note which pods hold what was before', back.note),
  step('Replace the pod network', back.network),
  step('Replace the DNS', back.dns),
  step('Replace every other pod', back.others),
  step('The cluster is well', validAgain('the-cluster-is-well-back')),
  step('Pods are as they were', back.asBefore),
  step('The certificates of etcd are of the CA of before', seeEtcdCertificates('see-the-certificates-of-etcd-back')),
  step('Nothing is pending', { ...nothingPending, id: 'nothing-is-pending-back', remember: false }),
]

/** What was made anew, and what is left to do. */
export function report(ctx: RunContext<Variables> & KopsServices & { readonly outcome: string }): ReportSection[] {
  ended(ctx)
  const before = ctx.registered<CredentialsBefore>('read-the-credentials')
  if (!before || ctx.mode === 'rollback' || ctx.check) return []
  const renewed = ctx.registered<RenewedTokens>('write-the-tokens-anew')
  return [
    {
      title: `Credentials of ${ctx.vars.cluster}`,
      rows: [
        ['keysets', Object.keys(before.primaries).join(', ')],
        ...(before.stays.length > 0 ? [['stays', before.stays.join(', ')] as const] : []),
        ...(renewed ? [['tokens', `${renewed.secrets} Secrets written anew`] as const] : []),
        ...(renewed && renewed.failed.length > 0 ? [['not written anew', renewed.failed.join('; ')] as const] : []),
        ...(ctx.outcome === 'done'
          ? [
              ['kubeconfig', kubeconfigFile(ctx, 'admin')] as const,
              ['next', 'hand it out: nobody is let in with what was handed out before'] as const,
              [
                'kept',
                'credentials-before.json in the run’s folder holds the private keys of before: remove it once there is no way back any more',
              ] as const,
            ]
          : []),
      ],
    },
  ]
}
