// `rekey fleet serve`: how a fleet is, as a page and as metrics. It answers GET alone, and changes nothing.
import { once } from 'node:events'
import { Command } from 'commander'
import { exitCodes } from '../../errors.ts'
import { fleetMetrics } from '../../fleet/told/metrics.ts'
import { fleetPage } from '../../fleet/told/page.ts'
import { say } from '../../output/print.ts'
import { example } from '../options/help.ts'
import { positiveInteger } from '../options/whole-number.ts'
import { interruptible } from '../running/interrupt.ts'
import { listen, metricsType, type Page, withTokenFile } from './listening.ts'
import { openSight } from './status.ts'
import { type StoreOptions, withStoreOptions } from './store.ts'

interface ServeOptions extends StoreOptions {
  readonly host: string
  readonly port: number
  readonly tokenFile?: string
}

export function serveCommand(): Command {
  const command = new Command('serve').description(
    'how a fleet is, as a page for a browser and as metrics for Prometheus; reads only',
  )
  return withTokenFile(
    withStoreOptions(command)
      .option('--host <address>', 'the address that is listened on', '127.0.0.1')
      .option('--port <number>', 'its port', positiveInteger, 7239),
  )
    .addHelpText('after', example('for everybody on this machine', 'rekey fleet serve -F fleet.yml'))
    .action(async (options: ServeOptions) => {
      process.exitCode = await serve(options)
    })
}

async function serve(options: ServeOptions): Promise<number> {
  const sight = await openSight(options)
  const pages = async (path: string): Promise<Page | undefined> => {
    if (path === '/metrics') return { type: metricsType, body: fleetMetrics(await sight.seen()) }
    if (path === '/') return { type: 'text/html; charset=utf-8', body: fleetPage(await sight.seen()), refresh: '5' }
    return undefined
  }
  try {
    const { address, close } = await listen(options, options.tokenFile, pages)
    const { signal, release } = interruptible()
    try {
      say(`${address} and /metrics, until Ctrl-C`)
      if (!signal.aborted) await once(signal, 'abort')
      return exitCodes.done
    } finally {
      release()
      close()
    }
  } finally {
    await sight.close()
  }
}
