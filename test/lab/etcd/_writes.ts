// What is written to the etcd of a lab meanwhile, and by whom: who only looks writes nothing, and the cluster itself only that it lives.
import { setTimeout as delay } from 'node:timers/promises'
import type * as lab from '../../../lib/lab/index.ts'
import { kubectlOnM1, on } from '../_outside.ts'

/** Milliseconds without a write before it is taken for quiet, and after which nobody waits for that any longer. */
const [still, patience] = [15_000, 240_000]

const etcdctl = (shape: lab.Shape, words: string) => {
  const folder = '/etc/kubernetes/pki/etcd'
  const files = { CACERT: 'ca.crt', CERT: 'healthcheck-client.crt', KEY: 'healthcheck-client.key' }
  const settings = Object.entries(files).map(([variable, file]) => `ETCDCTL_${variable}=${folder}/${file}`)
  return on(shape, 'm1', `export ${settings.join(' ')}; ${words}`)
}

/** The number of etcd's last write. */
export const revision = async (shape: lab.Shape) =>
  Number(/"revision":(\d+)/.exec(await etcdctl(shape, 'etcdctl endpoint status -w json'))?.[1])

/** Every write to etcd after a revision, in order, as `PUT KEY` or `DELETE KEY`: etcd keeps its history for minutes. */
export async function writtenSince(shape: lab.Shape, last: number): Promise<string[]> {
  const said = await etcdctl(
    shape,
    `timeout 3 etcdctl watch --prefix '' --rev=${last + 1} | awk '/^(PUT|DELETE)$/ { verb = $0; getline; print verb, $0 }'`,
  )
  return said.split('\n').filter(Boolean)
}

/** Parts what a cluster writes while nobody does anything from the rest: leases, the API servers' among them, and what nodes say of themselves. */
export function signsOfLife(writes: readonly string[]): { own: string[]; others: string[] } {
  const own = /^(PUT|DELETE) \/registry\/(leases|masterleases|minions|events)\//
  return { own: writes.filter(one => own.test(one)), others: writes.filter(one => !own.test(one)) }
}

/**
 * Whether a write may be a kubelet's, which tells of the pod that it runs from a file: one that had to be started anew is told of minutes
 * later, too. Whoever looks twice has it once.
 */
export const tellsOfStaticPod = (write: string, machines: readonly string[]) =>
  machines.some(name =>
    ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'].some(
      component => write === `PUT /registry/pods/kube-system/${component}-${name}`,
    ),
  )

/**
 * Waits until what tests did before has come to its end: every pod of kube-system has been Ready for a while, and for as long nothing but
 * signs of life was written. Where that does not come, whoever looks next sees why.
 * @returns the number of etcd's last write before
 */
export async function untilQuiet(shape: lab.Shape): Promise<number> {
  for (const until = performance.now() + patience; ; ) {
    const since = await revision(shape)
    await delay(still)
    const isQuiet = signsOfLife(await writtenSince(shape, since)).others.length === 0 && (await areReady(shape))
    if (isQuiet || performance.now() > until) return since
  }
}

/** Whether all pods of kube-system that have not ended are Ready, and have been for a while. */
async function areReady(shape: lab.Shape): Promise<boolean> {
  const conditions = '{range .status.conditions[?(@.type=="Ready")]}{.status} {.lastTransitionTime}{end}'
  const said = await kubectlOnM1(shape)(
    `date -u +%FT%TZ; kubectl -n kube-system get pods --field-selector status.phase!=Succeeded,status.phase!=Failed -o jsonpath='{range .items[*]}${conditions}{"\\n"}{end}'`,
  )
  const [now = '', ...pods] = said.trim().split('\n')
  return pods.every(pod => {
    const [status, since = ''] = pod.split(' ')
    return status === 'True' && Date.parse(now) - Date.parse(since) > still
  })
}
