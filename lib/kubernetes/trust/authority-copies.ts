// The copies of the cluster's CA in the API: cluster-info for joining machines, the caBundle of webhooks, API services and CRD
// conversions, and what the inventory names beside them. They are found by their public key, alone or in a bundle, replaced
// without touching what stands beside them, and put back as they were. What the controller-manager publishes itself
// (kube-root-ca.crt, token Secrets), and what API servers write (extension-apiserver-authentication), is not here.
import { Secret } from '../../connection/shell.ts'
import { RekeyError } from '../../errors.ts'
import { holdsKey, type PublicKeys, publicKeysOf, withCertificates } from '../../pki/certificates/bundle-text.ts'
import { foundAt, type KubernetesApi, type KubernetesObject } from '../api/api.ts'
import { rewriteFields } from '../api/rewrite.ts'
import { type Carrier, type CarrierField, callers, keepers, pathOf, whereOf } from './carriers.ts'

/** A copy that was found, as it was then. Plain data, to be registered. */
export interface AuthorityCopy {
  /** `ConfigMap kube-public/cluster-info`, as people call it. */
  readonly where: string
  readonly path: string
  /** The fields with that CA, by their names, each as it stood there. */
  readonly fields: Readonly<Record<string, string | Secret>>
}

/** What copies are looked for, and where. */
export interface CopiesOptions {
  /** The ConfigMaps and Secrets to look into, as people call them; of those that are not there nothing is said. */
  readonly also?: readonly string[]
  /** Paths of objects to leave alone. */
  readonly except?: ReadonlyMap<string, unknown>
  readonly signal?: AbortSignal
}

/** What has become of copies that were to be put back. Plain data; objects by their names. */
export interface RestoredCopies {
  /** They hold, byte for byte, what they held. */
  readonly restored: readonly string[]
  /** Somebody has changed or made them meanwhile: the CA of before is in place of the other, and their change stays. */
  readonly changed: readonly string[]
  /** Somebody has taken the CA out, or the object away: it is left as it is. */
  readonly left: readonly string[]
}

/** What joining machines learn the CA from. */
export const clusterInfo = 'ConfigMap kube-public/cluster-info'

/**
 * The copies of a CA that a rotation replaces, with what they hold.
 * @param ca the CA to look for, PEM; several, where there are
 * @throws ApiError, HostFailedError where not everything can be read
 */
export async function authorityCopies(
  api: KubernetesApi,
  ca: string,
  options: CopiesOptions = {},
): Promise<AuthorityCopy[]> {
  const copies: AuthorityCopy[] = []
  for await (const { copy } of copiesOf(api, publicKeysOf(ca), options)) copies.push(copy)
  return copies
}

/**
 * Puts other certificates in place of a CA, wherever `authorityCopies` finds it. May come twice.
 * @param change what is replaced, and by what; PEM
 * @returns the copies that were replaced, as they were before
 */
export async function replaceCopies(
  api: KubernetesApi,
  change: { readonly old: string; readonly next: string },
  options: CopiesOptions = {},
): Promise<AuthorityCopy[]> {
  const old = publicKeysOf(change.old)
  const replaced: AuthorityCopy[] = []
  for await (const { copy, carrier } of copiesOf(api, old, options)) {
    const { before } = await rewrite(api, copy.path, carrier, field =>
      field.encode(withCertificates(field.text, old, change.next)),
    )
    if (Object.keys(before).length > 0) replaced.push({ ...copy, fields: before })
  }
  return replaced
}

/**
 * Puts back what copies held, where it is still what the rotation wrote. Where somebody has changed it, only the CA is put back; that
 * goes for copies that nobody has noted, too. May come twice.
 * @param copies what was noted before the change, then what `replaceCopies` said: what comes later counts
 * @param change as it was given to `replaceCopies`
 */
export async function restoreCopies(
  api: KubernetesApi,
  copies: readonly AuthorityCopy[],
  change: { readonly old: string; readonly next: string },
  options: CopiesOptions = {},
): Promise<RestoredCopies> {
  const old = publicKeysOf(change.old)
  const restored = new Map<string, string>()
  const others = new Set<string>()
  for (const copy of latest(copies)) {
    const { where, path, fields } = copy
    const { now } = await rewrite(api, path, carrierOf(copy), field => {
      const was = revealed(fields[field.id])
      if (was === undefined) return field.value
      const written = field.encode(withCertificates(field.decode(was), old, change.next))
      return field.value === written ? was : field.value
    })
    if (Object.entries(fields).every(([id, was]) => now[id] === revealed(was))) restored.set(path, where)
    else others.add(where)
  }
  const back = { old: change.next, next: change.old }
  const changed = (await replaceCopies(api, back, { ...options, except: restored })).map(({ where }) => where)
  for (const where of changed) others.delete(where)
  return { restored: [...restored.values()], changed, left: [...others] }
}

/** Each object once, each field as it was noted last. */
function latest(copies: readonly AuthorityCopy[]): Iterable<AuthorityCopy> {
  const byPath = new Map<string, AuthorityCopy>()
  for (const copy of copies)
    byPath.set(copy.path, { ...copy, fields: { ...byPath.get(copy.path)?.fields, ...copy.fields } })
  return byPath.values()
}

/** Every copy, and of which kind its object is. */
async function* copiesOf(
  api: KubernetesApi,
  keys: PublicKeys,
  { also = [clusterInfo], except = new Map(), signal }: CopiesOptions,
): AsyncGenerator<{ copy: AuthorityCopy; carrier: Carrier }> {
  const keeping = [...new Set(also)].map(keeperOf)
  for (const carrier of callers) {
    for await (const object of api.each(carrier.list, { signal })) {
      const copy = copyIn(carrier, object, keys)
      if (copy && !except.has(copy.path)) yield { copy, carrier }
    }
  }
  for (const { carrier, path } of keeping) {
    const object = await foundAt(api, path)
    const copy = object && copyIn(carrier, object, keys)
    if (copy && !except.has(copy.path)) yield { copy, carrier }
  }
}

/** The ConfigMap or Secret that a name means. */
function keeperOf(where: string): { carrier: Carrier; path: string } {
  const [, kind, namespace, name] = /^(ConfigMap|Secret) ([a-z0-9.-]+)\/([a-z0-9.-]+)$/.exec(where) ?? []
  const carrier = keepers.find(one => one.kind === kind)
  if (carrier) return { carrier, path: `/api/v1/namespaces/${namespace}/${carrier.kind.toLowerCase()}s/${name}` }
  throw new RekeyError(`"${where}" names no object with a copy of the CA`, {
    code: 'copies.name',
    hint: 'Write "ConfigMap NAMESPACE/NAME" or "Secret NAMESPACE/NAME".',
  })
}

const carrierOf = ({ where }: AuthorityCopy) =>
  [...callers, ...keepers].find(({ kind }) => where.startsWith(`${kind} `)) as Carrier

function copyIn(carrier: Carrier, object: KubernetesObject, keys: PublicKeys): AuthorityCopy | undefined {
  const fields = carrier.fieldsOf(object).filter(({ text }) => holdsKey(text, keys))
  if (fields.length === 0) return undefined
  return {
    where: whereOf(carrier, object),
    path: pathOf(carrier, object),
    fields: Object.fromEntries(fields.map(({ id, value }) => [id, kept(carrier, value)])),
  }
}

/** What a Secret held is one. */
const kept = ({ kind }: Carrier, value: string) => (kind === 'Secret' ? new Secret(value) : value)
const revealed = (value: string | Secret | undefined) => (value instanceof Secret ? value.reveal() : value)

interface Rewritten {
  readonly before: AuthorityCopy['fields']
  readonly now: Readonly<Record<string, string>>
}

/**
 * Writes other values into fields of an object that nobody else writes at the same moment; reads it again where somebody does.
 * @returns what the fields held that were written, and what all fields hold now; nothing where the object is not there
 */
async function rewrite(
  api: KubernetesApi,
  path: string,
  carrier: Carrier,
  valueFor: (field: CarrierField) => string,
): Promise<Rewritten> {
  let result: Rewritten = { before: {}, now: {} }
  const put = await rewriteFields(api, path, object => {
    const fields = carrier.fieldsOf(object).map(field => ({ ...field, next: valueFor(field) }))
    const changed = fields.filter(({ value, next }) => value !== next)
    result = {
      before: Object.fromEntries(changed.map(({ id, value }) => [id, kept(carrier, value)])),
      now: Object.fromEntries(fields.map(({ id, next }) => [id, next])),
    }
    return changed
  })
  return put === 'gone' ? { before: {}, now: {} } : result
}
