// Who goes in which wave, and why.
import { at, RekeyError } from '../../errors.ts'
import { budgetOf, type Fleet, type FleetCluster, type FleetWave } from './fleet-file.ts'

/** A wave with its clusters, in the order in which they are begun. */
export interface PlannedWave extends Omit<FleetWave, 'clusters'> {
  readonly clusters: readonly PlannedCluster[]
  /** How many may fail. */
  readonly failures: number
}

/** A cluster in its wave. */
export interface PlannedCluster extends FleetCluster {
  /** Why it is in this wave, in a few words. */
  readonly why: string
}

/**
 * Gives each cluster its wave: each wave takes what it asks for of those that are left, in the order of the file.
 * @throws RekeyError where a wave gets none, or a cluster is in none
 */
export function planWaves({ file, clusters, waves }: Fleet): PlannedWave[] {
  const left = new Map(clusters.map(one => [one.name, one]))
  const planned = waves.map((wave): PlannedWave => {
    const wanted = clusters.filter(one => isMeant(wave, one))
    const free = wanted.filter(({ name }) => left.has(name))
    const most = mostOf(wave, wanted.length)
    const taken = free.slice(0, most)
    if (taken.length === 0)
      throw new RekeyError(`${at(file, wave.line)}: no cluster is left for the wave ${wave.name}`, {
        code: 'fleet.empty-wave',
        hint:
          wanted.length === 0
            ? 'No cluster has what it asks for.'
            : 'Those that it asks for are all in waves before it. Nothing was begun.',
      })
    for (const { name } of taken) left.delete(name)
    return {
      ...wave,
      failures: budgetOf(wave.budget, taken.length),
      clusters: taken.map(one => ({ ...one, why: whyOf(wave, taken.length, wanted.length) })),
    }
  })
  const [first] = left.values()
  if (first)
    throw new RekeyError(
      `${at(file, first.line)}: ${first.name} is in no wave${left.size > 1 ? `, nor are ${left.size - 1} more` : ''}`,
      { code: 'fleet.no-wave', hint: 'A last wave that asks for nothing takes all that are left. Nothing was begun.' },
    )
  return planned
}

function isMeant({ clusters, labels }: FleetWave, cluster: FleetCluster): boolean {
  if (clusters && !clusters.includes(cluster.name)) return false
  return Object.entries(labels ?? {}).every(([name, values]) => values.includes(cluster.labels[name] ?? ''))
}

/** Of a percentage it is one at least: a wave is there to have somebody go first. */
function mostOf({ most }: FleetWave, of: number): number {
  if (!most) return of
  return 'count' in most ? most.count : Math.max(1, Math.ceil((most.percent * of) / 100))
}

function whyOf({ clusters, labels, most }: FleetWave, taken: number, wanted: number): string {
  const asked = Object.entries(labels ?? {}).map(([name, values]) => `${name}=${values.join('|')}`)
  const by = clusters ? ['named', ...asked] : asked
  const amount = most && ('percent' in most ? `${most.percent}%: ${taken} of ${wanted}` : `${taken} of ${wanted}`)
  if (by.length === 0) return amount ?? 'all that are left'
  return [by.join(', '), ...(amount ? [amount] : [])].join('; ')
}
