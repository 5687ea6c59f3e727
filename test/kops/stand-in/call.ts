// A stand-in for kops: keeps keysets and instances in a file below its state store, and answers as a real one was recorded to (answers.json), with
// what it does silently wrong.
import { createHash, X509Certificate } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { makeEtcdCertificates } from './etcd-manager.ts'
import {
  authorityFile,
  type InstanceState,
  isKilledAt,
  type KeysetState,
  type Live,
  readKeysetObjects,
  readState,
  type State,
  writeKeysetObjects,
  writeState,
} from './state.ts'

const { answers } = JSON.parse(readFileSync(join(import.meta.dirname, '..', 'answers.json'), 'utf8')) as {
  answers: Record<string, { text: string; stream?: 'stdout' | 'stderr'; exit?: number; log?: string }>
}

/** A call of kops. */
export interface Call {
  readonly args: readonly string[]
  /** The file that KUBECONFIG names; empty where it names none. */
  readonly kubeconfig: string
  /** What its stdin gives. */
  readonly input: Buffer
  /** Whether nobody waits for the answer any more. */
  isGone(): boolean
}

/** What came of it. */
export interface Said {
  code: number
  stdout: string
  stderr: string
}

/** Thrown where rekey is to be killed before it hears of a call: as if the machine had gone down there. */
export class Killed extends Error {}

/** Thrown where a call ends with something else than 0. */
class Failed extends Error {}

/** What a verb goes by, and what it says. */
interface Going extends Call {
  readonly cluster: string
  readonly folder: string
  readonly flags: ReadonlyMap<string, string | true>
  readonly said: Said
  state: State
}

type Verb = (call: Going, ...operands: string[]) => void

/** Answers a call. Throws `Killed` where rekey is to be killed. */
export async function answer(call: Call): Promise<Said> {
  const { words, flags } = parsed(call.args)
  const [cluster, store] = ['name', 'state'].map(name => String(flags.get(name) ?? ''))
  const folder = store!.replace(/^file:\/\//, '')
  const said: Said = { code: 0, stdout: '', stderr: '' }
  const going: Going = { ...call, cluster: cluster!, folder, flags, said, state: readState(folder) }
  readKeysetObjects(folder, going.cluster, going.state)
  log(folder, words, flags)
  const here = occasion(going.state, words, flags)
  const killed = (when: string) => {
    if (here !== undefined && isKilledAt(folder, `${when} ${here}`)) throw new Killed()
  }
  killed('before')
  const [verb, ...operands] = words[0] === 'version' ? ['version'] : [words.slice(0, 2).join(' '), ...words.slice(2)]
  for (let tries = 0; going.state.knobs['hangs'] === verb && tries < 600; tries++) {
    await delay(100)
    if (call.isGone()) return said
    going.state = readState(folder)
    readKeysetObjects(folder, going.cluster, going.state)
  }
  const run = verbs[verb!]
  if (!run) return { ...said, code: 1, stderr: `Error: unknown command "${words.join(' ')}" for "kops"\n` }
  try {
    run(going, ...operands)
    save(going)
  } catch (error) {
    if (!(error instanceof Failed)) throw error
  }
  killed('after')
  return said
}

/** The words and flags of a command line. */
function parsed(args: readonly string[]) {
  const words: string[] = []
  const flags = new Map<string, string | true>()
  const withValue = ['name', 'state', 'kubeconfig', 'wait', 'node-interval', 'control-plane-interval']
  const argv = [...args]
  while (argv.length > 0) {
    const word = argv.shift()!
    const [, long, , value] = /^--([\w-]+)(=(.*))?$/.exec(word) ?? []
    if (long) flags.set(long, value ?? (withValue.includes(long) ? argv.shift()! : true))
    else if (/^-[of]$/.test(word)) flags.set(word.slice(1), argv.shift()!)
    else words.push(word)
  }
  return { words, flags }
}

/** Notes a call with its flags, for whoever looks at what was called. */
function log(folder: string, words: readonly string[], flags: Going['flags']): void {
  const told = [...flags]
    .filter(([name]) => !['name', 'state', 'kubeconfig'].includes(name))
    .map(([name, value]) => ` --${name}${value === true ? '' : `=${value}`}`)
  appendFileSync(join(folder, 'calls.log'), `${words.join(' ')}${told.join('')}\n`)
}

/** What changes something, at this point of the rotation: rekey is killed there once before it acts, and once after. */
function occasion({ killing, keysets }: State, words: readonly string[], flags: Going['flags']): string | undefined {
  const changes =
    /^(create|promote|distrust|trust|delete|rolling-update|export)$/.test(words[0] ?? '') || flags.has('yes')
  if (!killing || !changes) return undefined
  const standing = Object.values(keysets).map(({ primary, items }) =>
    [primary.slice(-16), ...items.map(({ distrusted }) => (distrusted ? 0 : 1))].join(''),
  )
  return [...words, ...flags.keys(), basename(String(flags.get('kubeconfig') ?? '')), ...standing].join(' ')
}

function save({ folder, cluster, state }: Going): void {
  writeKeysetObjects(folder, cluster, state)
  writeState(folder, state)
}

/** Answers as it was recorded. Throws where that ends with something else than 0. */
function say({ cluster, state, said }: Going, id: string, values: Readonly<Record<string, string>> = {}): void {
  const { text, stream = 'stdout', exit = 0, log: level } = answers[id]!
  const known: Readonly<Record<string, string>> = { cluster, version: state.version, ...values }
  // A line of its log has the time, the process and the place before it.
  if (level) said[stream] += `${level}1128 10:00:00.000000       1 kops.go:1] `
  said[stream] += `${text.replace(/\{(\w+)\}/g, (_, name: string) => known[name] ?? '')}\n`
  if (exit === 0) return
  said.code = exit
  throw new Failed()
}

function sayJson(call: Going, value: unknown): void {
  say(call, 'klog')
  call.said.stdout += `${JSON.stringify(value)}\n`
}

const isYounger = (one: { id: string }, other: { id: string }) => BigInt(one.id) > BigInt(other.id)
const trustedOf = (set: KeysetState) => set.items.filter(item => !item.distrusted)
const caOf = ({ keysets }: State): KeysetState | undefined => keysets['kubernetes-ca']
const authority = (folder: string, id: string) => readFileSync(authorityFile(folder, 'kubernetes-ca', id), 'utf8')
const adminFile = (folder: string, id: string, part: string) => readFileSync(join(folder, 'admins', `${id}.${part}`))
const base64 = (text: string) => Buffer.from(text).toString('base64')

/** The keyset that a verb is about; where there is none, it fails with this answer. */
function keysetOf(call: Going, keyset: string, otherwise = 'keyset-not-found'): KeysetState {
  const set = call.state.keysets[keyset]
  if (!set) say(call, otherwise, { keyset })
  return set!
}

/** What instances are told of key pairs; of docker's credentials and Cilium's keys nothing is. */
function wanted({ keysets, spec, secrets }: State): Record<string, string> {
  const told = Object.entries(keysets).map(([name, set]) => [
    name,
    set.primary,
    ...trustedOf(set)
      .map(({ id }) => id)
      .sort(),
  ])
  const hash = (text: string) => createHash('sha256').update(text).digest('hex')
  const nodes = hash(JSON.stringify(told))
  return { nodes, 'control-plane': hash(nodes + (spec['encryptionConfig'] ? (secrets['encryptionconfig'] ?? '') : '')) }
}

function live(state: State): Live | undefined {
  const ca = caOf(state)
  return ca && { primary: ca.primary, trusted: trustedOf(ca).map(({ id }) => id) }
}

const needs = ({ knobs, applied }: State, { hash, role }: InstanceState) => !knobs['blind'] && hash !== applied[role]

/** Whether whoever calls it is let in by the API: its CA's id stands in the name of its user, and it trusts what the API presents. */
function isLetIn({ state: { live: now }, folder, kubeconfig }: Going): boolean {
  if (now === undefined) return true
  const text = existsSync(kubeconfig) ? readFileSync(kubeconfig, 'utf8') : ''
  const [, id] = /admin-(\d+)/.exec(text) ?? []
  if (id === undefined || !now.trusted.includes(id)) return false
  const { users, clusters } = JSON.parse(text) as Config
  const pem = Buffer.from(users[0].user['client-certificate-data']!, 'base64')
  if (Date.parse(new X509Certificate(pem).validTo) < Date.now()) return false
  const trusted = Buffer.from(clusters[0].cluster['certificate-authority-data'], 'base64')
  return trusted.includes(authority(folder, now.primary))
}

/** The part of a kubeconfig that is read and written. */
interface Config {
  readonly clusters: [{ cluster: Record<'certificate-authority-data', string> }]
  readonly users: [{ user: Readonly<Record<string, string>> }]
}

/** The id of a new key pair: it comes from the clock. */
function nextId({ state }: Going, keyset: string, set: { primary: string }): string {
  const { knobs, pool } = state
  const made = pool[keyset]
  if (made) return (knobs['behind'] ? made.shift() : made.splice(1, 1)[0])!
  state.clock = (BigInt(state.clock) + 1_000_000_000n).toString()
  return knobs['behind'] ? (BigInt(set.primary) - 5n).toString() : state.clock
}

const missingKeysets = ({ state }: Going) => state.names!.filter(name => !state.keysets[name])
const missingSecrets = ({ folder, cluster }: Going) =>
  ['admin', 'kube'].map(name => join(folder, cluster, 'secrets', name)).filter(path => !existsSync(path))

/** What an update does by itself to the kubeconfig that it is called with: the CAs of now are its cluster's. */
function writeAuthorities({ state, folder, kubeconfig }: Going): void {
  const ca = caOf(state)
  if (!ca || !existsSync(kubeconfig)) return
  const config = JSON.parse(readFileSync(kubeconfig, 'utf8')) as Config
  const authorities = trustedOf(ca).map(({ id }) => authority(folder, id))
  config.clusters[0].cluster['certificate-authority-data'] = base64(authorities.join(''))
  writeFileSync(kubeconfig, JSON.stringify(config))
}

/** The knob of so many times, one less. */
function takeOne({ knobs }: State, name: string): boolean {
  const left = Number(knobs[name] ?? 0)
  if (left > 0) knobs[name] = left - 1
  return left > 0
}

const verbs: Readonly<Record<string, Verb>> = {
  version: call => say(call, 'version'),
  'create keypair': (call, keyset = '') => {
    const set = keysetOf(call, keyset, 'keypair-not-supported')
    const id = nextId(call, keyset, set)
    set.items.push({ id })
    if (call.state.knobs['foreignAfterCreate']) call.state.foreign = true
    say(call, 'created', { keyset, id })
  },
  'promote keypair': (call, keyset = '', id) => {
    const set = keysetOf(call, keyset, 'keyset-not-there')
    const item = id
      ? set.items.find(one => one.id === id)
      : trustedOf(set).toSorted((a, b) => (isYounger(a, b) ? -1 : 1))[0]
    if (!item) return say(call, 'keypair-not-found')
    if (item.distrusted) return say(call, 'keypair-distrusted')
    if (call.state.knobs['deaf'] || (!id && item.id === set.primary))
      return say(call, 'nothing-to-promote', { keyset, id: set.primary })
    set.primary = item.id
    say(call, 'promoted', { keyset, id: item.id })
  },
  'distrust keypair': (call, keyset = '', id) => {
    const set = keysetOf(call, keyset, 'keyset-not-there')
    if (id === set.primary) return say(call, 'primary-not-distrusted')
    const items = id
      ? set.items.filter(one => one.id === id)
      : trustedOf(set).filter(one => isYounger({ id: set.primary }, one))
    if (id && items.length === 0) return say(call, 'keypair-not-found')
    if (items.length === 0 || call.state.knobs['deafDistrust']) return say(call, 'nothing-to-distrust', { keyset })
    for (const item of items.filter(({ distrusted }) => !distrusted)) {
      item.distrusted = '2027-01-01T00:00:00Z'
      say(call, 'distrusted', { keyset, id: item.id })
    }
  },
  'trust keypair': (call, keyset = '', id = '') => {
    const item = keysetOf(call, keyset).items.find(one => one.id === id)
    if (!item) return say(call, 'keypair-not-found')
    if (!item.distrusted) return
    delete item.distrusted
    say(call, 'trusted', { keyset, id })
  },
  'get keypairs': call => {
    const { keysets, knobs } = call.state
    const all = Object.entries(keysets).flatMap(([name, set]) =>
      set.items
        .filter(item => call.flags.has('distrusted') || !item.distrusted)
        .map(item => ({
          ...{ name, id: item.id, isPrimary: item.id === set.primary, subject: `CN=${name}` },
          ...{ issuer: knobs['givenCa'] === name ? 'CN=somebody' : `CN=${name}`, isCA: true },
          ...{ keyLength: 2048, hasPrivateKey: true },
          ...(item.distrusted ? { distrustTimestamp: item.distrusted } : {}),
        })),
    )
    sayJson(call, all)
  },
  'get instances': call =>
    sayJson(
      call,
      call.state.instances.map(one => ({
        ...{ id: one.id, status: needs(call.state, one) ? 'NeedsUpdate' : 'UpToDate', roles: [one.role] },
        ...{ internalIP: one.address ?? '10.0.0.9', externalIP: '', instanceGroup: one.group },
      })),
    ),
  'get cluster': call => sayJson(call, { metadata: { name: call.cluster }, spec: call.state.spec }),
  'get instancegroups': call => sayJson(call, call.state.groups),
  'get secrets': ({ folder, cluster, state, said }) => {
    const there = join(folder, cluster, 'secrets')
    const names = new Set([...(existsSync(there) ? readdirSync(there) : []), ...Object.keys(state.secrets)])
    said.stdout += `${['NAME', ...names].join('\n')}\n`
  },
  'delete secret': ({ folder, cluster, state }, kind = '') => {
    rmSync(join(folder, cluster, 'secrets', kind))
    delete state.secrets[kind]
  },
  'update cluster': call => {
    const { state, flags } = call
    const create = [
      ...missingKeysets(call).map(name => `Keypair/${name}`),
      ...missingSecrets(call).map(path => `Secret/${basename(path)}`),
    ]
    if (create.length > 0 && !flags.has('yes')) {
      say(call, 'pending-create', { items: create.map(one => `  ${one}\n`).join('') })
      return say(call, 'must-say-yes')
    }
    if (create.length > 0 && takeOne(state, 'failsOnce')) {
      save(call)
      return say(call, 'no-ca')
    }
    for (const name of missingKeysets(call)) {
      const id = nextId(call, name, { primary: state.clock })
      state.keysets[name] = { primary: id, items: [{ id }] }
    }
    for (const path of missingSecrets(call)) writeFileSync(path, JSON.stringify({ Data: `made at ${state.clock}` }))
    const next = wanted(state)
    const isPending = JSON.stringify(next) !== JSON.stringify(state.applied)
    if (flags.has('yes')) {
      const told = live(state)
      const { primary: tokens } = state.keysets['service-account'] ?? {}
      Object.assign(state, {
        applied: next,
        foreign: false,
        ...(told && { told }),
        ...(tokens && { toldTokens: tokens }),
      })
      if (flags.get('create-kube-config') !== 'false') writeAuthorities(call)
      const joined = { group: 'nodes-test', role: 'nodes', hash: 'of before' }
      if (takeOne(state, 'joins')) state.instances.push({ id: `i-joined-${state.knobs['joins']}`, ...joined })
      return say(call, 'updated')
    }
    if (!isPending && !state.foreign) return say(call, 'no-changes')
    if (isPending) say(call, 'pending')
    if (state.foreign) say(call, 'pending-foreign')
    say(call, 'must-say-yes')
  },
  'rolling-update cluster': call => {
    const { state, flags, folder, cluster } = call
    const due = state.instances.filter(one => flags.has('force') || needs(state, one))
    if (due.length === 0) return say(call, 'no-rolling-update')
    if (state.knobs['idle']) return say(call, 'rolled-nothing')
    const asks = !flags.has('cloudonly')
    if (asks && !isLetIn(call)) return say(call, 'unauthorized')
    for (const one of due) {
      const { group, role, address } = one
      state.made = (state.made ?? 0) + 1
      const made = { id: `i-made-${state.made}`, group, role, hash: state.applied[role] ?? '' }
      state.instances.splice(state.instances.indexOf(one), 1, { ...made, ...(address && { address }) })
      if (takeOne(state, 'joinsWhileRolling'))
        state.instances.push({ id: `i-joined-${state.made}`, group, role, hash: 'of before' })
    }
    const now = state.told ?? live(state)
    const tokens = state.toldTokens ?? state.liveTokens
    if (!state.knobs['keepsOldApi'])
      Object.assign(state, { ...(now && { live: now }), ...(tokens && { liveTokens: tokens }) })
    const stored = join(folder, cluster, 'secrets', 'encryptionconfig')
    // What the control plane is started with.
    if (existsSync(stored) && !state.knobs['keepsOldConfiguration'] && due.some(({ role }) => role === 'control-plane'))
      writeFileSync(
        join(folder, 'encryptionconfig.yaml'),
        Buffer.from((JSON.parse(readFileSync(stored, 'utf8')) as { Data: string }).Data, 'base64'),
      )
    makeEtcdCertificates(folder, state)
    save(call)
    if (asks && !isLetIn(call)) return say(call, 'unauthorized')
    say(call, 'rolled', { groups: [...new Set(state.instances.map(({ group }) => group))].sort().join(' ') })
  },
  'validate cluster': call => {
    const { state } = call
    if (state.knobs['sickWhenPromoted'] && state.live?.primary !== caOf(state)?.items[0]?.id) return say(call, 'sick')
    say(call, isLetIn(call) ? 'valid' : 'not-valid')
  },
  'export kubecfg': call => {
    const { state, folder, cluster, flags } = call
    const ca = caOf(state)!
    const { exportsPrimary, exportsAll } = state.knobs
    const exported = exportsPrimary ? [{ id: ca.primary }] : exportsAll ? ca.items : trustedOf(ca)
    const authorities = exported.map(({ id }) => authority(folder, id))
    const admin = `admin-${ca.primary}`
    const user = {
      'client-certificate-data': adminFile(folder, ca.primary, 'pem').toString('base64'),
      'client-key-data': adminFile(folder, ca.primary, 'key').toString('base64'),
    }
    const server = { server: state.server, 'certificate-authority-data': base64(authorities.join('')) }
    const config = {
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': cluster },
      clusters: [{ name: cluster, cluster: server }],
      contexts: [{ name: cluster, context: { cluster, user: admin } }],
      users: [{ name: admin, user }],
    }
    writeFileSync(String(flags.get('kubeconfig')), JSON.stringify(config))
    say(call, 'context-set')
  },
  'create secret': (call, kind = '') => {
    const { state, folder, cluster, flags, input } = call
    if (!flags.has('f')) return say(call, 'filename-required')
    if (state.secrets[kind] && !flags.has('force')) {
      return say(call, 'secret-exists', { keyset: kind === 'ciliumpassword' ? 'Cilium IPSec' : kind })
    }
    const text = flags.get('f') === '-' ? input : readFileSync(String(flags.get('f')))
    state.secrets[kind] = createHash('sha256').update(text).digest('hex')
    mkdirSync(join(folder, cluster, 'secrets'), { recursive: true })
    writeFileSync(join(folder, cluster, 'secrets', kind), JSON.stringify({ Data: text.toString('base64') }))
  },
}
