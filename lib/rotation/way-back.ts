// The way back of a rotation, the hard way, and what proves that it has arrived: the certificates and credentials of before are presented
// and accepted again.
import { HostFailedError } from '../errors.ts'
import { type Step, type StepDefinition, step } from '../playbook/model.ts'
import * as extra from './as-found/extra.ts'
import * as machineTrust from './as-found/machine-trust.ts'
import * as tokenKey from './as-found/token-key.ts'
import * as authorities from './authorities.ts'
import type * as backup from './backup.ts'
import * as copies from './copies.ts'
import type { OnCluster, OnHost } from './given/context.ts'
import * as found from './given/found.ts'
import { onMasters } from './given/hosts.ts'
import type { Variables as IssueVariables } from './issue.ts'
import {
  beforeOf,
  type Variables as ObserveVariables,
  probeAsAdministrator,
  startProbes,
  type WithProbes,
} from './observe.ts'
import * as place from './place.ts'
import * as restart from './restart/index.ts'
import * as tokens from './tokens.ts'
import * as verify from './verify.ts'
import * as workloads from './workloads.ts'

/** A step of the way there as one of the way back, under an id of its own. */
export function undo<Context>(id: string, definition: StepDefinition<Context>): StepDefinition<Context> {
  return { ...definition, id: `undo-${id}` }
}

/** Waits until the ports of a host present the certificates that lay on it before. */
export const presentedAgain: StepDefinition<OnHost> = {
  readOnly: true,
  run: ctx => verify.presents(ctx, found.readingOf(ctx).certificates, 'the certificate that it had'),
}

/** Fails where a master refuses the administrator of before. */
export const acceptedAgain: StepDefinition<OnCluster> = {
  readOnly: true,
  run: async ctx => {
    const { admin } = beforeOf(ctx)
    if (!admin) return
    const api = await ctx.cluster.apiOf(ctx.host)
    const old = { certificate: admin.certificate, key: admin.key.reveal() }
    if ((await verify.statusOf(ctx, api, old)) === 200) return
    throw new HostFailedError(`${ctx.host.name} refuses the old admin certificate`, {
      code: 'rollback.refused',
      host: ctx.host.name,
    })
  },
}

/** What the way back goes by. */
export type Context = OnCluster<
  authorities.Mounts &
    backup.Variables &
    copies.Variables &
    extra.Variables &
    IssueVariables &
    workloads.Variables &
    ObserveVariables
> &
  WithProbes

const old = { ca: found.oldClusterAuthority, clients: found.oldClientAuthorities }

/** Until tokens and copies of the CA are what they were. */
export const untilTokens: readonly Step<Context>[] = [
  step('Check that nobody else has changed these files since', undo('check-files', place.checkUnchanged)),
  step('Ask the API five times a second', undo('start-the-probes', onMasters(startProbes))),
  step(
    'Restart the kubelet of the masters, so that it starts what is killed at once',
    undo('prepare-kubelet', onMasters(restart.kubeletWhereverItStopped)),
  ),
  step(
    'Wait until the kubelets of the masters went round their pods, where an API server answers',
    undo('wait-for-prepared-kubelet', restart.preparedWhereTheyCan),
  ),
  step('Put the old files back, all hosts at once', undo('swap', place.putBack)),
  step('Have the API servers know the keys of tokens that they knew', undo('token-key', onMasters(tokenKey.asItWas))),
  step('Have the probes ask as the old administrator, too', undo('probe-as', onMasters(probeAsAdministrator))),
  step('Restart etcd on the masters that the others can do without', undo('spared-etcd', restart.sparedEtcd)),
  step('Restart their API servers', undo('spared-api-servers', restart.sparedApiServers)),
  step('Restart etcd on the others, each member as soon as the one before it serves', undo('etcd', restart.etcd)),
  step('Wait for the quorum of etcd', undo('quorum', onMasters(restart.quorum))),
  step('Restart the API servers of the others', undo('api-server', onMasters(restart.apiServer))),
  step('Wait until the API server answers', undo('answers', onMasters(restart.apiServerAnswers))),
  step(
    'Restart the controller-manager and the scheduler as they were',
    undo('controllers', onMasters(restart.controllersAsTheyWere)),
  ),
  step('Restart the kubelet', undo('kubelet', restart.kubelet)),
  step('Wait until every node is Ready', undo('ready', restart.nodesReady('masters:nodes', { after: 'undo-kubelet' }))),
  step(
    'Wait until the controller-manager and the scheduler run',
    undo('controllers-run', onMasters(restart.controllersRun('undo-controllers'))),
  ),
  step('Restart the units that the inventory names for certificates of its own', undo('extra', extra.restarted)),
  step(
    'Have machines that trusted the old CA in all they do trust it again',
    undo('machine-trust', machineTrust.follow),
  ),
  step('Wait until every namespace has the old kube-root-ca.crt', undo('root-ca', tokens.rootCaEverywhere(old.ca))),
  step('Have the tokens of service accounts signed with the old key', undo('tokens', tokens.regenerate(old.ca))),
  step(
    'Put the old CA back into cluster-info and its other copies',
    undo('copies', copies.putBack(old.clients, authorities.newClientAuthorities)),
  ),
]

/** Where nodes follow what the API says: before anything of what they lead to is restarted. */
export const kubeProxies: readonly Step<Context>[] = [
  step('Restart kube-proxy', undo('kube-proxy', workloads.kubeProxy)),
  step('Wait until kube-proxy has written its rules', undo('rules', workloads.kubeProxyRules)),
]

/** That all is as it was before, by what it is like from outside. */
export const proof: readonly Step<Context>[] = [
  step('Every TLS endpoint presents the certificate that it had', undo('verify-endpoints', presentedAgain)),
  step('The old admin certificate is accepted', undo('verify-admin', onMasters(acceptedAgain))),
  step('Every node is Ready, and every pod that was well', undo('verify-pods', verify.pods)),
  step('Every API server reaches every kubelet', undo('verify-exec', verify.kubeletsReached)),
  step('Secrets that were written before are read, unchanged', undo('verify-secrets', verify.secretsUnchanged)),
  step('The canaries are well', undo('verify-canaries', verify.canariesWell)),
]

/**
 * From wherever the swap, or what comes after it, stopped: the old files first, on all hosts at once, then the same restarts in
 * the same order as on the way there, and prepared for as there.
 */
export const steps: readonly Step<Context>[] = [
  ...untilTokens,
  ...kubeProxies,
  step('Restart the pod network', undo('pod-network', workloads.podNetwork)),
  step('Restart CoreDNS and what the inventory lists', undo('workloads', workloads.coreDnsAndListed)),
  ...proof,
]
