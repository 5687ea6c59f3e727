// fleet.yml: which clusters there are, in which waves they go, and what ends a wave. Checked whole before anything is begun.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import { z } from 'zod'
import { at, RekeyError, shown } from '../../errors.ts'
import { locatedYaml, type YamlPath } from '../../kubernetes/located-yaml.ts'
import { parseDuration } from '../../playbook/duration.ts'
import { suggestion } from '../../suggestion.ts'
import { type Receiver, receiverShape, receiverShapes } from './receivers.ts'
import { clockOf, dayNames, type MaintenanceWindow, readTime } from './windows.ts'

/** Milliseconds: what pg-boss takes at least, and what nobody would wait for any more. A minute is what a lock on hosts is held on to. */
const [leastHeartbeat, minute, mostHeartbeat] = [10_000, 60_000, 3_600_000]

/** What may be asked of the clusters of a wave before the next one begins: rekey's own commands, which read only. */
export const gateNames = ['validate', 'certs'] as const
export type Gate = (typeof gateNames)[number]

/** A number of clusters, or a share of them in millionths: whole numbers, of which none is a little too small. */
export type Share = { readonly count: number } | { readonly millionths: number }

/** A cluster, as fleet.yml has it. */
export interface FleetCluster {
  readonly name: string
  /** As written: below the folder of fleet.yml, or absolute. */
  readonly inventory: readonly string[]
  /** For `-e`: those of the fleet, and its own over them. */
  readonly variables: Readonly<Record<string, unknown>>
  readonly labels: Readonly<Record<string, string>>
  readonly windows: readonly MaintenanceWindow[]
}

/** A wave, as fleet.yml has it. */
export interface FleetWave {
  readonly name: string
  /** Names of clusters; all that are left where neither they nor labels are given. */
  readonly clusters?: readonly string[]
  /** Each label with the values that it may have. */
  readonly labels?: Readonly<Record<string, readonly string[]>>
  /** How many it takes at most. */
  readonly most?: Share
  /** Milliseconds between the end of its last cluster and its gates. */
  readonly soak: number
  readonly approval: boolean
  /** How many of it may fail before the fleet halts. */
  readonly budget: Share
  readonly gates: readonly Gate[]
}

/** A fleet, as its file has it. */
export interface Fleet {
  readonly name: string
  readonly file: string
  /** Of fleet.yml: what inventories are looked for in. */
  readonly folder: string
  readonly playbook?: string
  readonly maxParallel: number
  /** Seconds after which a worker that was not heard of has its clusters no more. */
  readonly heartbeat: number
  /** Milliseconds between two times that a cluster of a wave that soaks is asked what its gates ask. */
  readonly gatesEvery: number
  /** What is done about a cluster whose worker died. */
  readonly whenUnknown: 'resume' | 'rollback'
  readonly clusters: readonly FleetCluster[]
  readonly waves: readonly FleetWave[]
  /** Who is told what happens. */
  readonly notify: readonly Receiver[]
  /** The line of what stands at a place in it, for messages. */
  lineOf(path: YamlPath): number
  /** SHA-256 of the file's text: every worker of a fleet must have the same. */
  readonly hash: string
}

const nameShape = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'a name has letters, digits, dots, dashes and underscores, 63 at most')
const duration = z.union([z.string(), z.number()]).transform((value, context) => {
  const read = parseDuration(value)
  if (read !== undefined) return read
  context.addIssue({ code: 'custom', message: `${shown(value)} is not a duration such as 90s, 30m or 2h` })
  return z.NEVER
})
const count = z.number().int().min(0)
const percentage = z
  .string()
  .regex(/^\d{1,2}(\.\d{1,4})?%$|^100%$/, 'write a number of clusters, or a percentage such as 10% or 2.5%')
  .transform(text => {
    const [whole = '', part = ''] = text.slice(0, -1).split('.')
    return { millionths: Number(whole + part.padEnd(4, '0')) }
  })
const budget = z.union([count.transform(number => ({ count: number })), percentage], {
  error: 'write a number of clusters, or a percentage such as 10%',
})
const time = z.string().transform((text, context) => {
  const read = readTime(text)
  if (read !== undefined) return read
  context.addIssue({ code: 'custom', message: `${shown(text)} is no time such as '22:30'` })
  return z.NEVER
})
const zone = z.string().refine(
  name => {
    try {
      return clockOf(name) !== undefined
    } catch {
      return false
    }
  },
  { error: ({ input }) => `${shown(input)} is no time zone such as Europe/Paris` },
)
const label = z.union([z.string(), z.number(), z.boolean()]).transform(String)

const windowShape = z.strictObject({
  days: z
    .array(z.enum(dayNames))
    .min(1)
    .default([...dayNames])
    .transform(days => days.map(day => dayNames.indexOf(day))),
  from: time,
  to: time,
  zone: zone.default('UTC'),
})
const variables = z.record(z.string(), z.unknown())
const clusterShape = z.strictObject({
  inventory: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).transform(one => [one].flat()),
  variables: variables.default({}),
  labels: z.record(z.string(), label).default({}),
  windows: z.array(windowShape).optional(),
})
const waveShape = z.strictObject({
  name: nameShape,
  clusters: z.array(z.string()).min(1).optional(),
  labels: z
    .record(
      z.string(),
      z.union([label, z.array(label).min(1)]).transform(one => [one].flat()),
    )
    .optional(),
  count: count.min(1).optional(),
  percent: percentage.refine(({ millionths }) => millionths > 0, 'a wave of 0% has nobody').optional(),
  soak: duration.default(0),
  approval: z.boolean().default(false),
  failures: budget.optional(),
  gates: z.array(z.enum(gateNames)).optional(),
})
const fleetShape = z.strictObject({
  name: nameShape,
  playbook: z.string().min(1).optional(),
  max_parallel: count.min(1).max(1000).default(1),
  heartbeat: duration
    .refine(time => time >= leastHeartbeat && time <= mostHeartbeat, 'between 10s and 1h')
    .default(minute),
  when_unknown: z.enum(['resume', 'rollback']).default('resume'),
  variables: variables.default({}),
  windows: z.array(windowShape).default([]),
  failures: budget.default({ count: 0 }),
  gates: z.array(z.enum(gateNames)).default([]),
  gates_every: duration.refine(time => time >= 1_000, 'not less than 1s').default(10 * minute),
  notify: z.array(receiverShape).default([]),
  clusters: z.record(nameShape, clusterShape).refine(all => Object.keys(all).length > 0, 'there is no cluster'),
  waves: z.array(waveShape).min(1, 'there is no wave'),
})

/**
 * Reads fleet.yml.
 * @param file its path
 * @throws RekeyError with file and line of what is wrong, the first thing alone
 */
export function readFleet(file: string): Fleet {
  const path = resolve(file)
  const text = readText(path)
  const yaml = locatedYaml(text, file)
  const wrong = (where: YamlPath, what: string, hint?: string): never => {
    throw new RekeyError(`${at(file, yaml.lineOf(where))}: ${what}`, {
      code: 'fleet.file',
      hint: hint ?? 'docs/fleet.md says what stands in it. Nothing was begun.',
    })
  }
  const read = fleetShape.safeParse(yaml.value)
  if (!read.success) {
    const [issue] = read.error.issues
    const place = (issue?.path ?? []) as YamlPath
    if (issue?.code === 'unrecognized_keys') {
      const [key = ''] = issue.keys
      return wrong([...place, key], `'${key}' means nothing here${suggestion(key, namesAt(place))}`)
    }
    if (issue?.code === 'invalid_value' && 'values' in issue) return wrong(place, `${pathOf(place)}: ${issue.message}`)
    return wrong(place, place.length === 0 ? 'this is no fleet' : `${pathOf(place)}: ${issue?.message}`)
  }
  const { data } = read
  const folder = dirname(path)
  const clusters = Object.entries(data.clusters).map(([name, own]): FleetCluster => {
    return {
      ...{ name, inventory: own.inventory, labels: own.labels },
      variables: { ...data.variables, ...own.variables },
      windows: own.windows ?? data.windows,
    }
  })
  const waves = data.waves.map((wave, index): FleetWave => {
    const place = ['waves', index]
    if (data.waves.findIndex(({ name }) => name === wave.name) < index)
      wrong([...place, 'name'], `there is a wave ${wave.name} already`)
    if (wave.count !== undefined && wave.percent !== undefined)
      wrong([...place, 'percent'], 'a wave takes a count or a percentage of clusters, not both')
    for (const [position, name] of (wave.clusters ?? []).entries())
      if (!Object.hasOwn(data.clusters, name))
        wrong(
          [...place, 'clusters', position],
          `there is no cluster '${name}'${suggestion(name, Object.keys(data.clusters))}`,
        )
    for (const name of Object.keys(wave.labels ?? {})) {
      const known = new Set(clusters.flatMap(({ labels }) => Object.keys(labels)))
      if (!known.has(name))
        wrong([...place, 'labels', name], `no cluster has a label '${name}'${suggestion(name, known)}`)
    }
    return {
      ...{ name: wave.name, clusters: wave.clusters, labels: wave.labels, soak: wave.soak, approval: wave.approval },
      most: wave.count === undefined ? wave.percent : { count: wave.count },
      budget: wave.failures ?? data.failures,
      gates: wave.gates ?? data.gates,
    }
  })
  return {
    ...{ name: data.name, file: path, folder, playbook: data.playbook, maxParallel: data.max_parallel },
    ...{ heartbeat: Math.ceil(data.heartbeat / 1_000), gatesEvery: data.gates_every },
    ...{ whenUnknown: data.when_unknown, clusters, waves, notify: data.notify },
    lineOf: yaml.lineOf,
    hash: createHash('sha256').update(text).digest('hex'),
  }
}

/**
 * Whoever works on a fleet, or is about to, has all of its inventories; who looks at it or halts it needs none.
 * @throws RekeyError with the line of the first that is not there
 */
export function requireInventories({ file, folder, clusters, lineOf }: Fleet): void {
  for (const { name, inventory } of clusters)
    for (const [index, one] of inventory.entries())
      if (!existsSync(resolve(folder, one)))
        throw new RekeyError(
          `${at(file, lineOf(['clusters', name, 'inventory', ...(inventory.length > 1 ? [index] : [])]))}: the inventory of ${name} is not there: ${resolve(folder, one)}`,
          { code: 'fleet.file', hint: `It is looked for beside ${basename(file)}. Nothing was begun.` },
        )
}

/** How many clusters of so many a share is: of a percentage, as many as it makes whole, or one more where it makes no whole number. */
export function shareOf(share: Share, of: number, rounded: 'up' | 'down'): number {
  if ('count' in share) return share.count
  const parts = share.millionths * of
  const whole = (parts - (parts % 1_000_000)) / 1_000_000
  return rounded === 'up' && parts % 1_000_000 > 0 ? whole + 1 : whole
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new RekeyError(`${path} can't be read (${(cause as NodeJS.ErrnoException).code})`, {
      code: 'fleet.file',
      hint: 'Say where the file of the fleet is: -F FILE.',
      cause,
    })
  }
}

/** What may stand at a place, for a name that means nothing there. */
function namesAt([first, , third]: YamlPath): string[] {
  if (first === undefined) return Object.keys(fleetShape.shape)
  if (first === 'notify')
    return Object.keys(third === undefined ? { ...receiverShapes, on: [] } : receiverShapeOf(third))
  if (first === 'windows' || third === 'windows') return Object.keys(windowShape.shape)
  return Object.keys(first === 'clusters' ? clusterShape.shape : waveShape.shape)
}

const receiverShapeOf = (way: string | number) => receiverShapes[way as keyof typeof receiverShapes]?.shape ?? {}

const pathOf = (path: YamlPath) => path.join('.')
