// Who goes in which wave, and why.
import { at, RekeyError } from '../../errors.ts'
import { type Fleet, type FleetCluster, type FleetWave, requireInventories, shareOf } from './fleet-file.ts'

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
 * @throws RekeyError where a wave gets none, a cluster is in none, or its inventory is not there
 */
export function planWaves(fleet: Fleet): PlannedWave[] {
  requireInventories(fleet)
  const { file, clusters, waves, lineOf } = fleet
  const left = new Map(clusters.map(one => [one.name, one]))
  const takenBy = new Map<string, string>()
  const planned = waves.map((wave, index): PlannedWave => {
    const place = ['waves', index]
    const isMeant = meantBy(wave)
    const wanted = clusters.filter(isMeant)
    const free = wanted.filter(({ name }) => left.has(name))
    // Who stands there by name is to have that wave's approval and gates, and no other's.
    const gone = wave.clusters && wanted.find(({ name }) => !left.has(name))
    if (gone)
      throw new RekeyError(
        `${at(file, lineOf([...place, 'clusters', wave.clusters!.indexOf(gone.name)]))}: the wave ${wave.name} names ${gone.name}, which is in the wave ${takenBy.get(gone.name)} already`,
        {
          code: 'fleet.taken',
          hint: 'A cluster goes in one wave: name it in the first, or not there. Nothing was begun.',
        },
      )
    const taken = free.slice(0, wave.most && shareOf(wave.most, free.length, 'up'))
    if (taken.length === 0)
      throw new RekeyError(`${at(file, lineOf(place))}: no cluster is left for the wave ${wave.name}`, {
        code: 'fleet.empty-wave',
        hint:
          wanted.length === 0
            ? 'No cluster has what it asks for.'
            : 'Those that it asks for are all in waves before it. Nothing was begun.',
      })
    for (const { name } of taken) {
      left.delete(name)
      takenBy.set(name, wave.name)
    }
    return {
      ...wave,
      failures: shareOf(wave.budget, taken.length, 'down'),
      clusters: taken.map(one => ({ ...one, why: whyOf(wave, taken.length, free.length) })),
    }
  })
  const [first] = left.values()
  if (first)
    throw new RekeyError(
      `${at(file, lineOf(['clusters', first.name]))}: ${first.name} is in no wave${left.size > 1 ? `, nor are ${left.size - 1} more` : ''}`,
      { code: 'fleet.no-wave', hint: 'A last wave that asks for nothing takes all that are left. Nothing was begun.' },
    )
  return planned
}

function meantBy({ clusters, labels }: FleetWave): (cluster: FleetCluster) => boolean {
  const named = clusters && new Set(clusters)
  const wanted = Object.entries(labels ?? {})
  return cluster =>
    (named?.has(cluster.name) ?? true) && wanted.every(([name, values]) => values.includes(cluster.labels[name] ?? ''))
}

/** `left`: of so many that are in no wave before it. */
function whyOf({ clusters, labels, most }: FleetWave, taken: number, left: number): string {
  const asked = Object.entries(labels ?? {}).map(([name, values]) => `${name}=${values.join('|')}`)
  const by = clusters ? ['named', ...asked] : asked
  const amount = most && `${'count' in most ? '' : `${most.millionths / 10_000}%: `}${taken} of ${left}`
  if (by.length === 0) return amount ?? 'all that are left'
  return [by.join(', '), ...(amount ? [amount] : [])].join('; ')
}
