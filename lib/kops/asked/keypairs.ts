// Keysets as they stand in the state store: where a rotation is, is read from them, and remembered nowhere.
import { HostFailedError } from '../../errors.ts'
import type { Context } from '../context.ts'
import { kopsJson, listed } from './command.ts'

/** A key pair that is trusted or was. Ids are texts of 28 digits: as numbers they would be other ones. */
export interface Keypair {
  readonly id: string
  readonly isPrimary: boolean
  readonly isTrusted: boolean
  /** When it was distrusted; no number where it was not. */
  readonly at: number
}

/** A keyset by age: by ids, as kOps itself compares them. */
export interface Keyset {
  readonly name: string
  readonly primary: string
  /** Trusted and younger than the primary, the youngest last. */
  readonly newer: readonly string[]
  /** Trusted and older. */
  readonly older: readonly string[]
  readonly distrusted: readonly string[]
  /** When the last of those was, in milliseconds since 1970. They stay in their keyset for ever. */
  readonly distrustedAt?: number
}

/** Where a keyset stands. */
export type Stage = 'resting' | 'staged' | 'promoted'

/** All that can be rotated: kOps adds key pairs to CAs, and to the keys of service accounts. */
export const knownKeysets = [
  'kubernetes-ca',
  'service-account',
  'apiserver-aggregator-ca',
  'etcd-clients-ca',
  'etcd-clients-ca-cilium',
  'etcd-manager-ca-cilium',
  'etcd-manager-ca-events',
  // Clusters that keep their leases apart, from kOps 1.36 on.
  'etcd-manager-ca-leases',
  'etcd-manager-ca-main',
  'etcd-peers-ca-cilium',
  'etcd-peers-ca-events',
  'etcd-peers-ca-leases',
  'etcd-peers-ca-main',
] as const

const canBeRotated = (name: string) => name === 'service-account' || name.includes('-ca')

/** Whether the first of two ids is the younger one. */
export const isYounger = (one: string, other: string) => BigInt(one) > BigInt(other)

/** When a key pair was made, in milliseconds since 1970: kOps' ids begin with the time, in nanoseconds. */
export const madeAt = (id: string) => Number(BigInt(id) >> 32n) / 1e6

/**
 * Reads the keysets that can be rotated.
 * @throws HostFailedError where kops answers with something else
 */
export async function readKeysets(ctx: Context): Promise<ReadonlyMap<string, Keyset>> {
  return keysetsOf(await readKeypairs(ctx))
}

/** Every key pair as kops has it, those that are distrusted, too. */
export async function readKeypairs(ctx: Context): Promise<Readonly<Record<string, unknown>>[]> {
  return listed(await kopsJson(ctx, ['get', 'keypairs', '--distrusted'], { what: 'kops to read the key pairs' }))
}

/** The keysets of what it answered. */
export function keysetsOf(answer: readonly Readonly<Record<string, unknown>>[]): Map<string, Keyset> {
  const pairs = answer.map(one => {
    const { name, id } = one
    if (typeof name !== 'string' || typeof id !== 'string' || !/^\d{1,60}$/.test(id)) {
      throw unexpected(
        `it has a key pair without a name, or with an id that is no text of digits: ${JSON.stringify(id)}`,
      )
    }
    return {
      name,
      id,
      isPrimary: one['isPrimary'] === true,
      isTrusted: one['distrustTimestamp'] === undefined,
      at: Date.parse(String(one['distrustTimestamp'])),
    }
  })
  const byName = Map.groupBy(
    pairs.filter(({ name }) => canBeRotated(name)),
    ({ name }) => name,
  )
  return new Map([...byName].map(([name, items]) => [name, keysetOf(name, items)]))
}

function keysetOf(name: string, items: readonly Keypair[]): Keyset {
  const [primary, another] = items.filter(({ isPrimary }) => isPrimary)
  if (!primary || another) throw unexpected(`${name} has ${another ? 'more than one' : 'no'} primary key pair`)
  const byAge = items.toSorted((one, other) => (isYounger(one.id, other.id) ? 1 : -1))
  const ended = items.map(({ at }) => at).filter(Number.isFinite)
  const ids = (wanted: (item: Keypair) => boolean) => byAge.filter(wanted).map(({ id }) => id)
  return {
    name,
    primary: primary.id,
    newer: ids(one => one.isTrusted && isYounger(one.id, primary.id)),
    older: ids(one => one.isTrusted && isYounger(primary.id, one.id)),
    distrusted: ids(one => !one.isTrusted),
    ...(ended.length > 0 ? { distrustedAt: Math.max(...ended) } : {}),
  }
}

const unexpected = (message: string) =>
  new HostFailedError(`'kops get keypairs' answered what rekey does not understand: ${message}`, {
    code: 'kops.unexpected-answer',
  })

/**
 * Where a keyset stands.
 * @throws HostFailedError where it is between two rotations: nobody but its operator knows which key pairs are meant
 */
export function stageOf({ name, primary, newer, older }: Keyset): Stage {
  if (newer.length > 1 || (newer.length > 0 && older.length > 0)) {
    throw new HostFailedError(
      `${name} has ${newer.length + older.length} trusted key pairs beside its primary ${primary}: ${[...older, ...newer].join(', ')}`,
      {
        code: 'kops.several-staged',
        hint: `'kops create keypair' makes another one each time, and one rotation was not finished before the next was begun. Distrust by id those that are not meant: kops distrust keypair ${name} ID`,
      },
    )
  }
  return newer.length > 0 ? 'staged' : older.length > 0 ? 'promoted' : 'resting'
}

/** One keyset, anew. */
export async function readKeyset(ctx: Context, name: string): Promise<Keyset> {
  const found = (await readKeysets(ctx)).get(name)
  if (found) return found
  throw new HostFailedError(`there is no keyset ${name} any more`, { code: 'kops.no-keyset' })
}
