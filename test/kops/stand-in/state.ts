// What the stand-in for kops keeps, in a file of its state store: a test may look at it, and change it between two calls.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Item {
  id: string
  distrusted?: string
}

export interface KeysetState {
  primary: string
  items: Item[]
}

export interface InstanceState {
  id: string
  group: string
  role: string
  /** The configuration that it was started with. */
  hash: string
  address?: string
}

/** What the API goes by: whose certificate it presents, and whose clients it lets in. */
export interface Live {
  readonly primary: string
  readonly trusted: readonly string[]
}

export interface State {
  version: string
  clock: string
  keysets: Record<string, KeysetState>
  /** The keysets that there were at first: `update cluster` makes one anew that is missing. */
  names?: string[]
  /** Ids of the CAs that it has not made yet, the oldest first, by their keysets. */
  pool: Record<string, string[]>
  instances: InstanceState[]
  /** How many it has made. */
  made?: number
  /** The configuration of each role, as it was applied last. */
  applied: Record<string, string>
  live?: Live
  /** The key pair that tokens are signed with. */
  liveTokens?: string
  /** What instances that are made now are told. */
  told?: Live
  toldTokens?: string
  knobs: Record<string, unknown>
  spec: Record<string, unknown>
  groups: unknown[]
  secrets: Record<string, string>
  server: string
  foreign?: boolean
  /** Whether rekey is killed at each call that changes something, once before it acts and once after; and where it was. */
  killing?: boolean
  killed?: string[]
}

const fileOf = (store: string) => join(store, 'stand-in.json')

export const readState = (store: string) => JSON.parse(readFileSync(fileOf(store), 'utf8')) as State

/** Writes it so that nobody reads half of it. */
export function writeState(store: string, state: State): void {
  writeFileSync(`${fileOf(store)}.next`, JSON.stringify(state, undefined, 1))
  renameSync(`${fileOf(store)}.next`, fileOf(store))
}

const keysetFile = (store: string, cluster: string, name: string) =>
  join(store, cluster, 'pki', 'private', name, 'keyset.yaml')

/** A keyset as kops writes it. */
interface KeysetObject {
  readonly spec: {
    readonly primaryId: string
    readonly keys: readonly { readonly id: string; readonly distrustTimestamp?: string }[]
  }
}

/** Where the certificate of a CA lies that it may come to make: a test has made them all. */
export const authorityFile = (store: string, keyset: string, id: string) => join(store, 'cas', keyset, `${id}.pem`)

/** Keysets as they lie in the state store: somebody may have taken one away, or put another one there. */
export function readKeysetObjects(store: string, cluster: string, state: State): void {
  state.names ??= Object.keys(state.keysets)
  for (const name of state.names) {
    const file = keysetFile(store, cluster, name)
    if (existsSync(file)) {
      const { spec } = JSON.parse(readFileSync(file, 'utf8')) as KeysetObject
      const items = spec.keys.map(({ id, distrustTimestamp: at }) => ({ id, ...(at && { distrusted: at }) }))
      state.keysets[name] = { primary: spec.primaryId, items }
    } else delete state.keysets[name]
  }
}

export function writeKeysetObjects(store: string, cluster: string, { keysets }: State): void {
  for (const [name, { primary, items }] of Object.entries(keysets)) {
    const file = keysetFile(store, cluster, name)
    mkdirSync(join(file, '..'), { recursive: true })
    const keys = items.map(({ id, distrusted }) => {
      const own = authorityFile(store, name, id)
      return {
        ...{ id, ...(distrusted && { distrustTimestamp: distrusted }) },
        ...(existsSync(own) && { publicMaterial: readFileSync(own).toString('base64') }),
      }
    })
    const spec: KeysetObject['spec'] = { primaryId: primary, keys }
    writeFileSync(
      file,
      JSON.stringify({ apiVersion: 'kops.k8s.io/v1alpha2', kind: 'Keyset', metadata: { name }, spec }),
    )
  }
}

/**
 * Whether rekey is to be killed here, where kills come: once at each place that they have not been at.
 * @param where says the place; it is noted
 */
export function isKilledAt(store: string, where: string): boolean {
  const state = readState(store)
  if (!state.killing || state.killed?.includes(where)) return false
  writeState(store, { ...state, killed: [...(state.killed ?? []), where] })
  return true
}
