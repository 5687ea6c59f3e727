// What holds credentials for registries, as Docker writes it: in Secrets of two types, and in files that kubelets and container runtimes read. An entry
// is found by what it says, not by where it lies, and changed alone: other registries, and fields that nobody here knows, stay.
import { RekeyError } from '../../errors.ts'

/** Who asks a registry. */
export interface Credential {
  readonly user: string
  readonly password: string
}

/** `.dockerconfigjson` has its entries below `auths`; `.dockercfg`, the older one, has nothing else. */
export type Shape = 'config' | 'cfg'

/** An entry that is one of the registry and the user. */
export interface Entry {
  /** The name that it stands under: `registry.example.com`, `https://registry.example.com/v2/`. */
  readonly name: string
  readonly password: string
}

/** What was found in one text. */
export interface Found {
  readonly entries: readonly Entry[]
  /** Entries that serve the registry, too, and are left alone: a sentence each. */
  readonly beside: readonly string[]
}

type Fields = Record<string, unknown>
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Docker Hub goes by several names. */
const hub = ['docker.io', 'index.docker.io', 'registry-1.docker.io']

/** Host and port of an entry's name or of what pods ask for; Docker Hub by one of its names. */
export function hostOf(name: string): string {
  const host = name
    .replace(/^https?:\/\//, '')
    .split('/')[0]!
    .toLowerCase()
  return hub.includes(host) ? 'docker.io' : host
}

/** Which registry an image comes from: the part before the first slash where that is a host, else Docker Hub. */
export function registryOf(image: string): string {
  const [first = '', ...rest] = image.split('/')
  return rest.length > 0 && (/[.:]/.test(first) || first === 'localhost') ? hostOf(first) : 'docker.io'
}

/** `user:password` in base64, as it is sent and kept. */
export const basicOf = ({ user, password }: Credential): string => Buffer.from(`${user}:${password}`).toString('base64')

/** Takes `user:password` apart. Undefined where it has no colon, or nothing before that. */
export function credentialFrom(text: string): Credential | undefined {
  const colon = text.indexOf(':')
  return colon > 0 ? { user: text.slice(0, colon), password: text.slice(colon + 1) } : undefined
}

/** What `basicOf` makes, taken apart. */
export const fromBasic = (base64: string): Credential | undefined =>
  credentialFrom(Buffer.from(base64, 'base64').toString('utf8'))

/**
 * Reads a text.
 * @returns undefined where it is no such configuration: kubelets pass over files that are none, and fail pods whose Secret is none
 */
function parseConfig(text: string, shape: Shape): Fields | undefined {
  try {
    const tree: unknown = JSON.parse(text)
    if (!isFields(tree)) return undefined
    return shape === 'cfg' || tree['auths'] === undefined || isFields(tree['auths']) ? tree : undefined
  } catch {
    return undefined
  }
}

const authsOf = (tree: Fields, shape: Shape): Fields => (shape === 'cfg' ? tree : ((tree['auths'] ?? {}) as Fields))

/**
 * Whom an entry says that it is for. `auth` counts before the two other fields, as for kubelets.
 * @returns undefined where it says nothing that anybody could log in with
 */
export function credentialOf(entry: unknown): Credential | undefined {
  if (!isFields(entry)) return undefined
  const { auth, username, password } = entry
  if (typeof auth === 'string' && auth !== '') return fromBasic(auth.trim())
  return typeof username === 'string' && username !== '' && typeof password === 'string'
    ? { user: username, password }
    : undefined
}

/**
 * Looks for entries of a registry and a user.
 * @param registry host, with its port where it has one
 */
export function entriesOf(text: string, shape: Shape, registry: string, user: string): Found {
  const tree = parseConfig(text, shape)
  if (!tree) return { entries: [], beside: [] }
  const entries: Entry[] = []
  const beside: string[] = []
  for (const [name, entry] of Object.entries(authsOf(tree, shape))) {
    const own = credentialOf(entry)
    if (own?.user !== user) continue
    if (hostOf(name) === hostOf(registry)) entries.push({ name, password: own.password })
    else if (hostOf(name).includes('*') && isCovered(hostOf(name), hostOf(registry)))
      beside.push(`its entry ${name} serves ${registry}, too, and is left alone`)
  }
  return { entries, beside }
}

/** `*` stands for a part of a name between two dots, as kubelets read it. */
function isCovered(pattern: string, host: string): boolean {
  const [parts, own] = [pattern.split('.'), host.split('.')]
  return parts.length === own.length && parts.every((part, index) => part === '*' || part === own[index])
}

/**
 * Puts another credential into the entries of a registry and a user. The fields that an entry has are those that it keeps, and so is the text's indentation.
 * @throws RekeyError where an entry logs in by a token that was made from the old credential
 */
export function withCredential(text: string, shape: Shape, registry: string, user: string, next: Credential): string {
  const tree = parseConfig(text, shape)
  const names = new Set(entriesOf(text, shape, registry, user).entries.map(({ name }) => name))
  if (!tree || names.size === 0) return text
  const auths = Object.fromEntries(
    Object.entries(authsOf(tree, shape)).map(([name, entry]) => [
      name,
      names.has(name) ? changed(entry as Fields, name, next) : entry,
    ]),
  )
  const indent = /^[{[]\r?\n([ \t]+)/.exec(text.trimStart())?.[1]
  const end = text.slice(text.trimEnd().length)
  return JSON.stringify(shape === 'cfg' ? auths : { ...tree, auths }, undefined, indent) + end
}

function changed(entry: Fields, name: string, next: Credential): Fields {
  const token = ['identitytoken', 'registrytoken'].find(
    field => typeof entry[field] === 'string' && entry[field] !== '',
  )
  if (token !== undefined)
    throw new RekeyError(`the entry ${name} logs in by its ${token}, which was made from the old credential`, {
      code: 'registry.token',
      hint: 'Take the token out of it, or make it anew by a login with the new credential.',
    })
  return {
    ...entry,
    ...('username' in entry && { username: next.user }),
    ...('password' in entry && { password: next.password }),
    ...('auth' in entry && { auth: basicOf(next) }),
  }
}
