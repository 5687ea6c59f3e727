#!/usr/bin/env node
// A stand-in for kops: keeps keysets and instances in a file below its state store, and answers as a real one was recorded to (answers.json), with
// what it does silently wrong. Plain JavaScript: it is started hundreds of times.
import { createHash, X509Certificate } from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'

const { answers, kops } = JSON.parse(readFileSync(join(import.meta.dirname, 'answers.json'), 'utf8'))

const words = []
const flags = new Map()
const withValue = ['name', 'state', 'kubeconfig', 'wait', 'node-interval', 'control-plane-interval']
const argv = process.argv.slice(2)
while (argv.length > 0) {
  const word = argv.shift()
  const [, long, , value] = /^--([\w-]+)(=(.*))?$/.exec(word) ?? []
  if (long) flags.set(long, value ?? (withValue.includes(long) ? argv.shift() : true))
  else if (/^-[of]$/.test(word)) flags.set(word[1], argv.shift())
  else words.push(word)
}
const cluster = flags.get('name') ?? ''
const folder = String(flags.get('state') ?? '').replace(/^file:\/\//, '')
const file = join(folder, 'stand-in.json')

const say = (id, values = {}) => {
  const { text, stream = 'stdout', exit = 0 } = answers[id]
  const filled = text.replace(
    /\{(\w+)\}/g,
    (_, name) => ({ cluster, version: state?.version ?? kops, ...values })[name] ?? '',
  )
  process[stream].write(`${filled}\n`)
  if (exit !== 0) end(exit)
}
/** What changes something, at this point of the rotation: it is killed there once before it acts, and once after. */
const occasion = () => {
  const { killing, keysets } = state ?? {}
  const changes = /^(create|promote|distrust|trust|delete|rolling-update|export)$/.test(words[0]) || flags.has('yes')
  if (!killing || !changes) return undefined
  const standing = Object.values(keysets ?? {}).map(({ primary, items }) =>
    [primary.slice(-16), ...items.map(({ distrusted }) => (distrusted ? 0 : 1))].join(''),
  )
  return [...words, ...flags.keys(), basename(String(flags.get('kubeconfig') ?? '')), ...standing].join(' ')
}
/** Ends the process of rekey, by its id, before it hears of this call: as if the machine had gone down there. */
const killed = when => {
  if (here === undefined || state.killed.includes(`${when} ${here}`)) return
  state.killed.push(`${when} ${here}`)
  save()
  process.kill(Number(readFileSync(join(folder, 'pid'), 'utf8')), 'SIGKILL')
  process.exit(1)
}
const end = code => {
  killed('after')
  process.exit(code)
}

let state
if (words[0] === 'version' && !existsSync(file)) {
  say('version')
  process.exit(0)
}
state = JSON.parse(readFileSync(file, 'utf8'))
// Keysets are what lies in the state store: somebody may have taken one away, or put another one there.
const keysetFile = name => join(folder, cluster, 'pki', 'private', name, 'keyset.yaml')
state.names ??= Object.keys(state.keysets)
for (const name of state.names) {
  if (existsSync(keysetFile(name))) state.keysets[name] = JSON.parse(readFileSync(keysetFile(name), 'utf8'))
  else delete state.keysets[name]
}
const generated = ['admin', 'kube'].map(name => join(folder, cluster, 'secrets', name))
const log = join(folder, 'calls.log')
appendFileSync(
  log,
  `${words.join(' ')}${[...flags]
    .filter(([name]) => !['name', 'state', 'kubeconfig'].includes(name))
    .map(([name, value]) => ` --${name}${value === true ? '' : `=${value}`}`)
    .join('')}\n`,
)
const save = () => {
  for (const [name, set] of Object.entries(state.keysets)) {
    mkdirSync(join(keysetFile(name), '..'), { recursive: true })
    writeFileSync(keysetFile(name), JSON.stringify(set))
  }
  writeFileSync(`${file}.next`, JSON.stringify(state, undefined, 1))
  renameSync(`${file}.next`, file)
}
const here = occasion()
killed('before')
const younger = (one, other) => BigInt(one.id) > BigInt(other.id)
const primaryOf = set => set.items.find(item => item.id === set.primary)
const trustedOf = set => set.items.filter(item => !item.distrusted)
/** What instances are told of key pairs; of docker's credentials and Cilium's keys nothing is. */
const wanted = () => {
  const told = Object.entries(state.keysets).map(([name, set]) => [
    name,
    set.primary,
    ...trustedOf(set)
      .map(({ id }) => id)
      .sort(),
  ])
  const encryption = state.spec.encryptionConfig ? (state.secrets.encryptionconfig ?? '') : ''
  const nodes = createHash('sha256').update(JSON.stringify(told)).digest('hex')
  return {
    nodes,
    'control-plane': createHash('sha256')
      .update(nodes + encryption)
      .digest('hex'),
  }
}
let ca = state.keysets['kubernetes-ca']
const live = () => (ca ? { primary: ca.primary, trusted: trustedOf(ca).map(({ id }) => id) } : undefined)
const needs = instance => !state.knobs.blind && instance.hash !== state.applied[instance.role]
const hasEnded = ({ users: [{ user }] }) => {
  const pem = Buffer.from(user['client-certificate-data'], 'base64')
  return Date.parse(new X509Certificate(pem).validTo) < Date.now()
}
/** Whether it trusts what the API presents. */
const trusts = ({ clusters: [{ cluster }] }) =>
  Buffer.from(cluster['certificate-authority-data'], 'base64').includes(
    readFileSync(join(folder, 'cas', `${state.live.primary}.pem`)),
  )
/** Whom the credential that it is called with is of: its CA's id stands in the name of its user. */
const isLetIn = () => {
  const config =
    process.env.KUBECONFIG && existsSync(process.env.KUBECONFIG) ? readFileSync(process.env.KUBECONFIG, 'utf8') : ''
  const id = /admin-(\d+)/.exec(config)?.[1]
  if (state.live === undefined) return true
  if (id === undefined || !state.live.trusted.includes(id)) return false
  return !hasEnded(JSON.parse(config)) && trusts(JSON.parse(config))
}
const json = value => {
  say('klog')
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

/** The id of a new key pair: it comes from the clock. */
const nextId = (keyset, set) => {
  if (keyset === 'kubernetes-ca') return state.knobs.behind ? state.pool.shift() : state.pool.splice(1, 1)[0]
  state.clock = (BigInt(state.clock) + 1_000_000_000n).toString()
  return state.knobs.behind ? (BigInt(set.primary) - 5n).toString() : state.clock
}
const missingKeysets = () => state.names.filter(name => !state.keysets[name])
const missingSecrets = () => generated.filter(path => !existsSync(path))
const secretNames = () => {
  const there = join(folder, cluster, 'secrets')
  return [...new Set([...(existsSync(there) ? readdirSync(there) : []), ...Object.keys(state.secrets)])]
}

/** What an update does by itself to the kubeconfig that it is called with: the CAs of now are its cluster's. */
const writeAuthorities = path => {
  if (!ca || !path || !existsSync(path)) return
  const config = JSON.parse(readFileSync(path, 'utf8'))
  const authorities = trustedOf(ca).map(({ id }) => readFileSync(join(folder, 'cas', `${id}.pem`), 'utf8'))
  config.clusters[0].cluster['certificate-authority-data'] = Buffer.from(authorities.join('')).toString('base64')
  writeFileSync(path, JSON.stringify(config))
}

const verbs = {
  version: () => say('version'),
  'create keypair': keyset => {
    const set = state.keysets[keyset]
    if (!set) return say('keypair-not-supported', { keyset })
    const id = nextId(keyset, set)
    set.items.push({ id })
    if (state.knobs.foreignAfterCreate) state.foreign = true
    say('created', { keyset, id })
  },
  'promote keypair': (keyset, id) => {
    const set = state.keysets[keyset]
    if (!set) return say('keyset-not-found', { keyset })
    const item = id ? set.items.find(one => one.id === id) : set.items.toSorted((a, b) => (younger(a, b) ? -1 : 1))[0]
    if (!item) return say('keypair-not-found')
    if (state.knobs.deaf || (!id && item.id === set.primary))
      return say('nothing-to-promote', { keyset, id: set.primary })
    set.primary = item.id
    say('promoted', { keyset, id: item.id })
  },
  'distrust keypair': (keyset, id) => {
    const set = state.keysets[keyset]
    if (!set) return say('keyset-not-found', { keyset })
    if (id === set.primary) return say('primary-not-distrusted')
    const primary = primaryOf(set)
    const items = id ? set.items.filter(one => one.id === id) : trustedOf(set).filter(one => younger(primary, one))
    if (id && items.length === 0) return say('keypair-not-found')
    if (items.length === 0 || state.knobs.deafDistrust) return say('nothing-to-distrust', { keyset })
    for (const item of items) {
      item.distrusted = '2027-01-01T00:00:00Z'
      say('distrusted', { keyset, id: item.id })
    }
  },
  'trust keypair': (keyset, id) => {
    const set = state.keysets[keyset]
    if (!set) return say('keyset-not-found', { keyset })
    const item = set.items.find(one => one.id === id)
    if (!item) return say('keypair-not-found')
    delete item.distrusted
    say('trusted', { keyset, id })
  },
  'get keypairs': () =>
    json(
      Object.entries(state.keysets).flatMap(([name, set]) =>
        set.items
          .filter(item => flags.has('distrusted') || !item.distrusted)
          .map(item => ({
            ...{
              name,
              id: item.id,
              isPrimary: item.id === set.primary,
              subject: `CN=${name}`,
              issuer: state.knobs.givenCa === name ? 'CN=somebody' : `CN=${name}`,
              isCA: true,
            },
            ...{ keyLength: 2048, hasPrivateKey: true },
            ...(item.distrusted ? { distrustTimestamp: item.distrusted } : {}),
          })),
      ),
    ),
  'get instances': () =>
    json(
      state.instances.map(instance => ({
        ...{ id: instance.id, status: needs(instance) ? 'NeedsUpdate' : 'UpToDate', roles: [instance.role] },
        ...{ internalIP: instance.address ?? '10.0.0.9', externalIP: '', instanceGroup: instance.group },
      })),
    ),
  'get cluster': () => json({ metadata: { name: cluster }, spec: state.spec }),
  'get instancegroups': () => json(state.groups),
  'get secrets': () => process.stdout.write(`${['NAME', ...secretNames()].join('\n')}\n`),
  'delete secret': kind => {
    rmSync(join(folder, cluster, 'secrets', kind))
    delete state.secrets[kind]
  },
  'update cluster': () => {
    const create = [
      ...missingKeysets().map(name => `Keypair/${name}`),
      ...missingSecrets().map(path => `Secret/${basename(path)}`),
    ]
    if (create.length > 0 && !flags.has('yes')) {
      say('pending-create', { items: create.map(one => `  ${one}\n`).join('') })
      return say('must-say-yes')
    }
    if (create.length > 0 && state.knobs.failsOnce > 0) {
      state.knobs.failsOnce--
      save()
      return say('no-ca')
    }
    for (const name of missingKeysets()) {
      const id = nextId(name, { primary: state.clock })
      state.keysets[name] = { primary: id, items: [{ id }] }
    }
    ca = state.keysets['kubernetes-ca']
    for (const path of missingSecrets()) writeFileSync(path, JSON.stringify({ Data: `made at ${state.clock}` }))
    const next = wanted()
    const isPending = JSON.stringify(next) !== JSON.stringify(state.applied)
    if (flags.has('yes')) {
      state.applied = next
      state.told = live()
      state.toldTokens = state.keysets['service-account']?.primary
      state.foreign = false
      if (flags.get('create-kube-config') !== 'false') writeAuthorities(process.env.KUBECONFIG)
      if (state.knobs.joins > 0) {
        state.knobs.joins--
        state.instances.push({
          id: `i-joined-${state.knobs.joins}`,
          group: 'nodes-test',
          role: 'nodes',
          hash: 'of before',
        })
      }
      return say('updated')
    }
    if (!isPending && !state.foreign) return say('no-changes')
    if (isPending) say('pending')
    if (state.foreign) say('pending-foreign')
    say('must-say-yes')
  },
  'rolling-update cluster': () => {
    const due = state.instances.filter(instance => flags.has('force') || needs(instance))
    if (due.length === 0) return say('no-rolling-update')
    if (state.knobs.idle) return say('rolled-nothing')
    const cloudonly = flags.has('cloudonly')
    if (!cloudonly && !isLetIn()) return say('unauthorized')
    const rollNext = () => {
      const at = state.instances.findIndex(one => due.includes(one))
      const { group, role, address } = state.instances[at]
      state.made = (state.made ?? 0) + 1
      const joins = state.knobs.joinsWhileRolling > 0
      if (joins) state.knobs.joinsWhileRolling--
      state.instances.splice(at, 1, { id: `i-made-${state.made}`, group, role, hash: state.applied[role], address })
      if (joins) state.instances.push({ id: `i-joined-${state.made}`, group, role, hash: 'of before' })
    }
    for (const _ of due) rollNext()
    state.live = state.told ?? live()
    state.liveTokens = state.toldTokens ?? state.liveTokens
    const stored = join(folder, cluster, 'secrets', 'encryptionconfig')
    // What the control plane is started with.
    if (existsSync(stored) && !state.knobs.keepsOldConfiguration && due.some(({ role }) => role === 'control-plane'))
      writeFileSync(
        join(folder, 'encryptionconfig.yaml'),
        Buffer.from(JSON.parse(readFileSync(stored, 'utf8')).Data, 'base64'),
      )
    // etcd-manager makes what is missing, and keeps what is there.
    for (const path of ['clients/server.crt', 'clients/server.key', 'peers/me.crt', 'peers/me.key']) {
      const own = join(folder, 'mnt', 'a', 'pki', 'x', path)
      if (!existsSync(own)) writeFileSync(own, state.live?.primary ?? '')
    }
    save()
    if (!cloudonly && !isLetIn()) return say('unauthorized')
    say('rolled')
  },
  'validate cluster': () => {
    if (state.knobs.sickWhenPromoted && state.live.primary !== ca.items[0].id) return say('sick')
    if (!isLetIn()) return say('not-valid')
    say('valid')
  },
  'export kubecfg': () => {
    const path = String(flags.get('kubeconfig'))
    const pem = id => readFileSync(join(folder, 'cas', `${id}.pem`), 'utf8')
    const base64 = text => Buffer.from(text).toString('base64')
    const authorities = trustedOf(ca).map(({ id }) => pem(id))
    const admin = `admin-${ca.primary}`
    const config = {
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': cluster },
      clusters: [
        {
          name: cluster,
          cluster: { server: state.server, 'certificate-authority-data': base64(authorities.join('')) },
        },
      ],
      contexts: [{ name: cluster, context: { cluster, user: admin } }],
      users: [
        {
          name: admin,
          user: {
            'client-certificate-data': base64(pem(`${ca.primary}-admin`)),
            'client-key-data': base64(pem(`${ca.primary}-admin-key`)),
          },
        },
      ],
    }
    writeFileSync(path, JSON.stringify(config))
    say('context-set')
  },
  'create secret': kind => {
    if (!flags.has('f')) return say('filename-required')
    if (state.secrets[kind] && !flags.has('force')) return say('secret-exists', { keyset: kind })
    const text = readFileSync(flags.get('f') === '-' ? 0 : String(flags.get('f')))
    state.secrets[kind] = createHash('sha256').update(text).digest('hex')
    mkdirSync(join(folder, cluster, 'secrets'), { recursive: true })
    writeFileSync(join(folder, cluster, 'secrets', kind), JSON.stringify({ Data: text.toString('base64') }))
  },
}

const [verb, ...operands] = words[0] === 'version' ? ['version'] : [words.slice(0, 2).join(' '), ...words.slice(2)]
for (let tries = 0; state.knobs.hangs === verb && tries < 600; tries++) {
  await new Promise(resolve => setTimeout(resolve, 100))
  state = JSON.parse(readFileSync(file, 'utf8'))
}
const run = verbs[verb]
if (!run) {
  process.stderr.write(`Error: unknown command "${words.join(' ')}" for "kops"\n`)
  process.exit(1)
}
run(...operands)
save()
killed('after')
