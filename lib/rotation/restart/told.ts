// What a restart would do, in words for `--check`.
import type { ComponentName } from '../../kubernetes/layout/host-layout.ts'
import type { OnHost } from '../given/context.ts'
import { runsAs } from '../given/found.ts'

/** How a component is killed, and who starts it again; `host` where that is not the step's own. */
export function killing(ctx: OnHost, component: ComponentName, host?: string): string {
  const runs = runsAs(ctx, component, host)
  const again = runs?.kind === 'unit' ? `systemctl restart ${runs.unit}` : 'its kubelet starts it again'
  return `kill ${component}${host === undefined ? '' : ` on ${host}`}; ${again}`
}

/** The same, ended gracefully. */
export function ending(ctx: OnHost, component: ComponentName, host?: string): string {
  return killing(ctx, component, host).replace(/^kill /, 'end ')
}
