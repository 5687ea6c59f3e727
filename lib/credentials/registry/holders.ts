// What in the API holds the credential: Secrets, found by decoding them, in all namespaces and page by page; who hands them to pods; and who would write
// the old one back.
import { Secret, secret } from '../../connection/shell.ts'
import type { RekeyError } from '../../errors.ts'
import type { KubernetesApi, KubernetesObject } from '../../kubernetes/api/api.ts'
import { firstOf } from '../../kubernetes/before/secrets.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { isAccepted, machines, refused, requireInRun, strangers } from '../given.ts'
import { ownersOf } from '../owners.ts'
import { basicOf, entriesOf, hostOf, registryOf, type Shape, withCredential } from './docker-config.ts'
import { type Context, type Holder, ids, isOld, nextOf, nodeOf, type Plan } from './given.ts'

/** The two types that kubelets take, and the field of each. */
const types: Readonly<Record<Shape, { readonly type: string; readonly field: string }>> = {
  config: { type: 'kubernetes.io/dockerconfigjson', field: '.dockerconfigjson' },
  cfg: { type: 'kubernetes.io/dockercfg', field: '.dockercfg' },
}
const shapes = Object.keys(types) as Shape[]

export const fieldOf = (shape: Shape): string => types[shape].field
export const pathOf = ({ namespace, name }: Pick<Holder, 'namespace' | 'name'>): string =>
  `/api/v1/namespaces/${namespace}/secrets/${name}`
export const nameOf = ({ namespace, name }: Pick<Holder, 'namespace' | 'name'>): string => `${namespace}/${name}`

/** The text that a Secret of one of the types holds; empty where it holds none. */
export function textOf({ data }: KubernetesObject, shape: Shape): string {
  const value = (data as Record<string, string> | undefined)?.[fieldOf(shape)]
  return typeof value === 'string' ? Buffer.from(value, 'base64').toString('utf8') : ''
}

const listOf = (shape: Shape) => `/api/v1/secrets?fieldSelector=${encodeURIComponent(`type=${types[shape].type}`)}`

/** A Secret that has the old credential. */
interface Held extends Omit<Holder, 'text'> {
  readonly text: string
  readonly passwords: readonly string[]
  readonly beside: readonly string[]
  readonly owners: readonly string[]
  readonly isImmutable: boolean
}

/** Every Secret of the two types that has the old user's entry with another password than the new one, or one beside it that serves the registry, too. */
export async function* heldSecrets(ctx: Context, api: KubernetesApi): AsyncGenerator<Held> {
  const { registry, registry_user: user } = ctx.vars
  const next = nextOf(ctx)
  for (const shape of shapes)
    for await (const one of api.each(listOf(shape), { signal: ctx.signal })) {
      const text = textOf(one, shape)
      const { entries, beside } = entriesOf(text, shape, registry, user)
      const passwords = entries.map(({ password }) => password).filter(password => isOld(next, ctx.vars, password))
      if (passwords.length === 0 && beside.length === 0) continue
      const { name, namespace = '' } = one.metadata
      yield {
        ...{ namespace, name, shape, text, passwords, beside },
        owners: ownersOf(one),
        isImmutable: one['immutable'] === true,
      }
    }
}

/** Finds all of it, and refuses what would not be changed, or would not stay so. */
export const find: StepDefinition<Context> = {
  id: ids.find,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Plan> => {
    const api = await ctx.cluster.api()
    const ofNodes = ctx.hosts(machines).flatMap(({ name }) => nodeOf(ctx, name).passwords)
    const passwords = new Set(ofNodes.map(one => one.reveal()))
    const texts = new Map<string, number>()
    const [holders, left, stuck, owned]: [Holder[], string[], string[], string[]] = [[], [], [], []]
    for await (const { text, beside, owners, isImmutable, passwords: own, ...holder } of heldSecrets(ctx, api)) {
      const name = nameOf(holder)
      for (const one of beside) ctx.log(`Secret ${name}: ${one}`)
      if (beside.length > 0) left.push(`${name} (${beside.join(', ')})`)
      if (own.length === 0) continue
      if (isAccepted(ctx, `secret/${name}`)) {
        left.push(name)
        continue
      }
      for (const one of own) passwords.add(one)
      requireEditable(name, () =>
        withCredential(text, holder.shape, ctx.vars.registry, ctx.vars.registry_user, nextOf(ctx)),
      )
      if (isImmutable) stuck.push(name)
      if (owners.length > 0 && !isAccepted(ctx, `owner/${name}`)) owned.push(`${name} (${owners.join(', ')})`)
      if (!texts.has(text)) texts.set(text, texts.size)
      holders.push({ ...holder, text: texts.get(text)! })
    }
    requireChangeable(stuck, owned)
    if (passwords.size === 0)
      throw refused(
        'registry.nothing-to-do',
        `no Secret and no file of a node has a credential of ${ctx.vars.registry_user} for ${ctx.vars.registry}, other than the new one`,
        'Are both spelt as they stand there? kubectl get secrets -A --field-selector type=kubernetes.io/dockerconfigjson',
      )
    const namespaces = new Set(holders.map(({ namespace }) => namespace)).size
    ctx.log(`${holders.length} Secrets in ${namespaces} namespaces, with ${texts.size} different texts`)
    const secrets = [...passwords].map(one => secretsOf(one, ctx.vars.registry_user))
    return {
      texts: [...texts.keys()].map(text => partly(text, secrets)),
      ...{ holders, left },
      passwords: secrets.map(([password]) => password),
      images: await imagesOf(ctx, api),
      accounts: await accountsWith(ctx, api, new Set(holders.map(nameOf))),
      others: await othersWith(ctx, api, secrets.flat()),
    }
  },
}

/** Makes of a Secret what will be made of it: one that can't be changed is named before any was. */
function requireEditable(name: string, edit: () => void): void {
  try {
    edit()
  } catch (error) {
    const { message, hint = '' } = error as RekeyError
    throw refused(
      'registry.token',
      `Secret ${name}: ${message}`,
      `${hint} Or accept that it is left as it is: secret/${name}`,
    )
  }
}

type Told = readonly [password: Secret, basic: Secret]

/** A password, and what is sent of it: each is a secret by itself. */
export const secretsOf = (password: string, user: string): Told => [
  new Secret(password),
  secret(basicOf({ user, password })),
]

/** Of a text that names registries and users, the credentials are secrets. */
export const partly = (text: string, told: readonly Told[]): Secret =>
  new Secret(
    text,
    told
      .flat()
      .map(one => one.reveal())
      .filter(one => text.includes(one)),
  )

function requireChangeable(stuck: readonly string[], owned: readonly string[]): void {
  if (stuck.length > 0)
    throw refused(
      'registry.immutable',
      `Secrets that are immutable: ${firstOf(stuck)}`,
      'They can’t be changed: make others by new names, and have pods and service accounts name those. What is left as it is for that, accept by name: secret/NAMESPACE/NAME',
    )
  if (owned.length > 0)
    throw refused(
      'registry.owned',
      `Secrets that something else writes: ${firstOf(owned)}`,
      'It would write the old credential back: change it there, and leave the Secret to it (accept secret/NAMESPACE/NAME), or have it changed here all the same (owner/NAMESPACE/NAME) and see at the end whether it stayed.',
    )
}

/** Images by which a credential is tried. */
async function imagesOf({ vars, signal }: Context, api: KubernetesApi): Promise<string[]> {
  const registry = hostOf(vars.registry)
  const strange = vars.registry_images?.find(image => registryOf(image) !== registry)
  if (strange !== undefined)
    throw refused('registry.image', `${strange} is no image of ${vars.registry}`, 'registry_images: [HOST/NAME:TAG]')
  if (vars.registry_images && vars.registry_images.length > 0) return [...new Set(vars.registry_images)]
  for await (const { spec } of api.each('/api/v1/pods', { signal })) {
    const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])] as { image?: string }[]
    const image = containers.find(one => one.image !== undefined && registryOf(one.image) === registry)?.image
    if (image !== undefined) return [image]
  }
  throw refused(
    'registry.no-image',
    `no pod has an image of ${vars.registry}`,
    'Say by which one a credential is tried: -e registry_images=HOST/NAME:TAG',
  )
}

/** Service accounts that hand one of these Secrets to their pods, by name. */
async function accountsWith({ signal }: Context, api: KubernetesApi, names: ReadonlySet<string>): Promise<string[]> {
  const found: string[] = []
  for await (const { metadata, imagePullSecrets = [] } of api.each('/api/v1/serviceaccounts', { signal })) {
    const { namespace, name } = metadata
    const own = (imagePullSecrets ?? []) as { name?: string }[]
    if (own.some(one => names.has(`${namespace}/${one.name}`))) found.push(`${namespace}/${name}`)
  }
  return found
}

/** Secrets of other types that hold the credential: builders and pipelines keep it so. Nobody changes them here. */
async function othersWith({ signal }: Context, api: KubernetesApi, told: readonly Secret[]): Promise<string[]> {
  const needles = told.map(one => one.reveal()).filter(one => one.length >= 8)
  const found: string[] = []
  for await (const one of api.each('/api/v1/secrets', { signal })) {
    if (Object.values(types).some(({ type }) => type === one['type'])) continue
    const values = Object.values((one['data'] ?? {}) as Record<string, string>)
    const holds = values.some(value => {
      const text = Buffer.from(value, 'base64').toString('utf8')
      return needles.some(needle => text.includes(needle))
    })
    if (holds) found.push(`${one.metadata.namespace}/${one.metadata.name}`)
  }
  return found
}

/** Every node of the cluster is one of the run: one that is left out could not be proven to pull. */
export const everyNode: StepDefinition<Context> = {
  id: ids.everyNode,
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    const left = await strangers(ctx, host => nodeOf(ctx, host).node)
    const why = 'Nobody would see whether they pull with the new credential.'
    requireInRun(ctx, 'registry.unknown-nodes', left, why)
    return { left }
  },
}
