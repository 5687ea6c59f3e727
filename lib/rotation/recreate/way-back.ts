// The way back of the disruptive way: that of a rotation the hard way, and every pod replaced once more.
import { type Step, step } from '../../playbook/model.ts'
import type * as authorities from '../authorities.ts'
import { type OnCluster, where } from '../given/context.ts'
import { type Context, kubeProxies, proof, undo, untilTokens } from '../way-back.ts'
import * as workloads from '../workloads.ts'
import { admissionBack } from './admission.ts'
import { confirmedBack, mayHaveNewTokens } from './confirmed.ts'
import type { Variables } from './given.ts'
import { asBefore, back } from './pods.ts'

/** From wherever the swap, or what comes after it, stopped. As disruptive as the way there: pods hold tokens of the new key, where API servers had it. */
export const steps: readonly Step<Context & OnCluster<Variables & Pick<authorities.Variables, 'cluster_name'>>>[] = [
  step('Say what users will notice of the way back', confirmedBack),
  ...untilTokens,
  step('Note which pods hold what was before', where(mayHaveNewTokens, back.note)),
  ...kubeProxies,
  step('Replace the pod network', where(mayHaveNewTokens, back.network)),
  step('Restart CoreDNS', where(mayHaveNewTokens, undo('coredns', workloads.coreDns))),
  step('Restart what admits pods', where(mayHaveNewTokens, admissionBack)),
  step('Replace every other pod', where(mayHaveNewTokens, back.others)),
  step('Every pod that was well is so again', undo('every-pod', asBefore)),
  ...proof,
]
