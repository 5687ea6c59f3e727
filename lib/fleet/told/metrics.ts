// How a fleet is, for Prometheus.
import { metricsText } from '../../output/collected/metrics.ts'
import { countedOf, type FleetStatus } from './status.ts'

/** Metrics in the text format of Prometheus. */
export function fleetMetrics({ fleet, at, waves, clusters, workers }: FleetStatus): string {
  const of = (name: string, help: string, value: number, labels: Readonly<Record<string, string>> = {}) => ({
    ...{ name: `rekey_fleet_${name}`, help, value, labels },
  })
  const counted = waves.flatMap(({ number, name }) =>
    countedOf(clusters, number).map(([state, count]) =>
      of('clusters', 'Clusters of a wave by their state.', count, { wave: name, state }),
    ),
  )
  return metricsText(
    [
      of('halted', 'Whether the fleet is halted (1).', fleet.state === 'halted' ? 1 : 0),
      of('done', 'Whether all waves are through (1).', fleet.state === 'done' ? 1 : 0),
      of(
        'begun_timestamp_seconds',
        'When the fleet was begun, in seconds since 1970.',
        Math.round(fleet.begun / 1_000),
      ),
      ...counted,
      ...waves.map(({ name, state }) =>
        of('wave_passed', 'Whether a wave is through (1).', state === 'passed' ? 1 : 0, { wave: name }),
      ),
      ...clusters
        .filter(({ state }) => state === 'running' || state === 'unknown')
        .map(({ name, since }) =>
          of('step_seconds', 'How long a cluster under way has been in its step.', Math.round((at - since) / 1_000), {
            cluster: name,
          }),
        ),
      ...workers.map(({ id, silent }) =>
        of('worker_silent_seconds', 'How long a worker was not heard of.', Math.round(silent / 1_000), { worker: id }),
      ),
    ],
    { fleet: fleet.name },
  )
}
