// `--metrics` of `rekey fleet run` and `worker`: what this process does, for Prometheus.
import type { Command } from 'commander'
import { type WorkerTally, workerTally } from '../../fleet/told/worker-metrics.ts'
import { tell } from '../../output/print.ts'
import { listen, metricsType, type Place, readPlace, withTokenFile } from './listening.ts'

export interface MetricsOptions {
  readonly metrics?: Place
  readonly tokenFile?: string
}

export const withMetricsOptions = (command: Command): Command =>
  withTokenFile(
    command.option(
      '--metrics <[host:]port>',
      'what this process does, as metrics for Prometheus at /metrics',
      readPlace,
    ),
  )

/**
 * Has metrics answered for so long as `work` takes, where they are asked for.
 * @param fleet its name
 * @throws RekeyError where the place can't be listened on: before anything is begun
 */
export async function withMetrics<T>(
  fleet: string,
  { metrics, tokenFile }: MetricsOptions,
  work: (tally: WorkerTally | undefined) => Promise<T>,
): Promise<T> {
  if (metrics === undefined) return work(undefined)
  const tally = workerTally(fleet)
  const { address, close } = await listen(metrics, tokenFile, async path =>
    path === '/metrics' ? { type: metricsType, body: tally.text() } : undefined,
  )
  tell(`Metrics of this process: ${address}metrics`)
  try {
    return await work(tally)
  } finally {
    close()
  }
}
