// What a rotation of Cilium's IPsec key goes by: the variables, and what its steps registered.
import { z } from 'zod'
import type { Secret } from '../../connection/shell.ts'
import { type IpsecKeys, readIpsecKeys } from '../../kubernetes/cilium/ipsec-keys.ts'
import { duration } from '../../playbook/duration.ts'
import type { RunContext } from '../../playbook/model.ts'
import { list, must, type OnCluster, refused } from '../given.ts'

const name = z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, 'it is no name of an object')

export const variables = {
  /** Where Cilium runs, and as which DaemonSet. */
  cilium_namespace: name.default('kube-system'),
  cilium_daemonset: name.default('cilium'),
  /** The Secret with its keys, in the same namespace. */
  ipsec_secret: name.default('cilium-ipsec-keys'),
  /** How long it may go on without a further agent that has the new key: a kubelet brings it within a minute and a half, an agent waits up to 30 s. */
  ipsec_within: duration.default(5 * 60_000),
  /** How many packets a node may have dropped for want of a key, and no more. */
  ipsec_drops: z.coerce.number().int().min(0).default(0),
  /**
   * What may be so: `owner/NAMESPACE/NAME` (something else writes the Secret), `node/NAME` (one that is not in the run), `mesh/CLUSTER` (another cluster
   * of the mesh, which is rotated by its own run at the same time). `*` stands for anything.
   */
  accept: list(z.string().regex(/^(owner|node|mesh)\/./)).default([]),
}

export type Variables = z.output<z.ZodObject<typeof variables>>
export type Context = OnCluster<Variables>
type Run = Pick<RunContext<Variables>, 'registered'>

export const ids = {
  find: 'find-cilium',
  errors: 'note-dropped-packets',
  make: 'make-the-key',
  put: 'put-the-key-there',
  drops: 'no-packets-were-dropped',
  back: 'put-the-key-back',
} as const

/** What `find` registers. */
export interface Found {
  /** The field of the Secret. */
  readonly field: string
  readonly line: Secret
  /** Whether agents take a new key up by themselves. */
  readonly watches: boolean
  /** How long agents keep the key of before, in milliseconds. */
  readonly keeps: number
  /** The nodes with an agent, each with its host in the run; none for those that were accepted. */
  readonly nodes: readonly { readonly node: string; readonly host?: string }[]
}

export const foundOf = (run: Run): Found => must(run.registered<Found>(ids.find), ids.find)
export const newLineOf = (run: Run): string => must(run.registered<{ line: Secret }>(ids.make), ids.make).line.reveal()

/** Keys that were read before, and are no others now. */
export function keysOf(line: string): IpsecKeys {
  const keys = readIpsecKeys(line)
  if (typeof keys !== 'string') return keys
  throw refused(
    'ipsec.keys',
    `the keys of Cilium can not be read: ${keys}`,
    'Mend the Secret first: agents that start anew go by it.',
  )
}

export const secretPath = ({ vars }: Pick<Context, 'vars'>): string =>
  `/api/v1/namespaces/${vars.cilium_namespace}/secrets/${vars.ipsec_secret}`
export const secretName = ({ vars }: Pick<Context, 'vars'>): string => `${vars.cilium_namespace}/${vars.ipsec_secret}`
