// The way back of the disruptive way: that of a rotation the hard way, and every pod replaced once more.
import { type Step, step } from '../../playbook/model.ts'
import type { OnCluster } from '../given/context.ts'
import { type Context, kubeProxies, proof, undo, untilTokens } from '../way-back.ts'
import * as workloads from '../workloads.ts'
import type { Variables } from './given.ts'
import { asBefore, back } from './pods.ts'

/** From wherever the swap, or what comes after it, stopped. As disruptive as the way there: pods that were replaced hold tokens of the new key. */
export const steps: readonly Step<Context & OnCluster<Variables>>[] = [
  ...untilTokens,
  step('Note which pods hold what was before', back.note),
  ...kubeProxies,
  step('Replace the pod network', back.network),
  step('Restart CoreDNS', undo('coredns', workloads.coreDns)),
  step('Replace every other pod', back.others),
  step('Every pod that was well is so again', undo('every-pod', asBefore)),
  ...proof,
]
