// The way back of a renewal: the old files first, then the same restarts in the same order as on the way there. What both certificates signed
// is the same, so nobody is cut off meanwhile.
import { type Step, step } from '../../playbook/model.ts'
import * as extra from '../as-found/extra.ts'
import type * as backup from '../backup.ts'
import * as copies from '../copies.ts'
import type { OnCluster } from '../given/context.ts'
import { onMasters } from '../given/hosts.ts'
import { type Variables as ObserveVariables, startProbesOfAllKinds, type WithProbes } from '../observe.ts'
import type { Variables as DrainVariables } from '../restart/drained.ts'
import * as outcome from '../verify.ts'
import { acceptedAgain, undo } from '../way-back.ts'
import * as authorities from './authorities.ts'
import * as files from './files.ts'
import * as verify from './verify.ts'

type Context = OnCluster<backup.Variables & copies.Variables & extra.Variables & ObserveVariables & DrainVariables> &
  WithProbes

/** From wherever it stopped. */
export const steps: readonly Step<Context>[] = [
  step('Check that nobody else has changed these files since', undo('check-files', files.checkUnchanged)),
  step('Ask the API in all ways', undo('start-the-probes', onMasters(startProbesOfAllKinds))),
  step('Put the old files back', undo('place-the-files', files.putBack)),
  step('Restart the kubelets', undo('kubelets', files.restart.kubelets)),
  step('Restart etcd on machines of its own, member by member', undo('etcd', files.restart.etcdMembers)),
  step('Restart etcd and the API servers, master by master', undo('api-servers', files.restart.apiServers)),
  step('Restart controller-managers and schedulers', undo('controllers', files.restart.controllers)),
  step('Restart kube-proxy where it is a unit', undo('kube-proxies', files.restart.kubeProxies)),
  step('Restart the units that the inventory names for certificates of its own', undo('extra', extra.restarted)),
  step('Wait until the old CA is published everywhere', undo('root-ca', verify.publishedEverywhere('old'))),
  step(
    'Put the old CA back into cluster-info and its other copies',
    undo('copies', copies.putBack(authorities.oldClients, authorities.newClients)),
  ),
  step('Every port presents what it presented', undo('verify-leaves', verify.sameLeaves)),
  step('Every file is as it was, and everything goes by it', undo('verify-hosts', verify.hosts('old'))),
  step('Every copy in the API is as it was', undo('verify-objects', verify.objects('old'))),
  step('The administrator is accepted', undo('verify-admin', onMasters(acceptedAgain))),
  step('Every node is Ready, and every pod that was well', undo('verify-pods', outcome.pods)),
  step('Every API server reaches every kubelet', undo('verify-exec', outcome.kubeletsReached)),
  step('Secrets that were written before are read, unchanged', undo('verify-secrets', outcome.secretsUnchanged)),
  step('The canaries are well', undo('verify-canaries', outcome.canariesWell)),
]
