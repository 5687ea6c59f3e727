// Whether what runs is what is written down: a restart would apply what somebody changed and did not restart, and would have components
// read files that were written since they started.
import { HostFailedError } from '../../errors.ts'
import { presentedCertificates } from '../../kubernetes/components/endpoints.ts'
import type { FoundComponent } from '../../kubernetes/layout/host-layout.ts'
import { parseCertificate } from '../../pki/certificates/certificate.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { isAccepted, type Variables } from '../conditions.ts'
import { beforehand, type OnHost } from '../given/context.ts'
import { type Looking, layoutOf, readingOf } from '../given/found.ts'

const step = 'compare-what-runs-with-what-lies-there'

/**
 * Fails where a unit or a manifest says something else than its process does, and nobody accepted it; registers what is presented on a
 * port and is not what lies there now, a line each.
 */
export const compare: StepDefinition<OnHost<Variables>> = {
  id: step,
  ...beforehand,
  run: async ctx => {
    const components = Object.values(layoutOf(ctx).components).filter(found => found !== undefined)
    const nameOf = ({ component }: FoundComponent) => `drift/${ctx.host.name}/${component}`
    const drifted = components.filter(({ drift }) => drift.length > 0)
    const refused = drifted.filter(found => !isAccepted(ctx, nameOf(found)))
    const told = drifted.map(({ component, drift }) => `${component} of ${ctx.host.name}: ${drift.join('; ')}`)
    if (refused.length > 0) {
      throw new HostFailedError(
        `somebody changed what is not in use yet: ${refused.map(({ component, drift }) => `${component} of ${ctx.host.name}: ${drift.join('; ')}`).join('; ')}`,
        {
          code: 'preflight.drift',
          host: ctx.host.name,
          hint: `A restart would apply it. Restart it yourself and see that it is well, or take it back; or accept it: accept: [${refused.map(nameOf).join(', ')}].`,
        },
      )
    }
    const served = await Promise.all(components.map(found => otherThanOnDisk(ctx, found)))
    const all = [...told, ...served.flat()]
    for (const line of all) ctx.log(line)
    return all
  },
}

/** What was told by it, a line each, of these hosts. */
export function toldOf(ctx: Looking, hosts: readonly { readonly name: string }[]): string[] {
  return hosts.flatMap(({ name }) => ctx.registered<string[]>(step, name) ?? [])
}

/** Ports of a component that present another certificate than the file has that it names for it. */
async function otherThanOnDisk(ctx: OnHost, { component, endpoints, files }: FoundComponent): Promise<string[]> {
  const { certificates } = readingOf(ctx)
  const found = await Promise.all(
    endpoints.map(async ({ address, port, role }) => {
      const path = files.find(one => one.role === role)?.path
      const lies = path === undefined ? undefined : certificates[path]
      if (lies === undefined) return []
      const where = `${ctx.host.name}:${port}`
      // One that is down presents nothing: that is another check's.
      const presented = await presentedCertificates(() => ctx.forward(address, port), where).catch(() => undefined)
      if (presented === undefined || parseCertificate(presented).fingerprint === parseCertificate(lies).fingerprint)
        return []
      return [
        `${component} on ${where} presents another certificate than ${path} has: that was written after it started, and it was not restarted`,
      ]
    }),
  )
  return found.flat()
}
