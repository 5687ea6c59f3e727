// What a host is like on a bad day, learnt from the host alone: what of it serves, and what somebody has left half done there.
import { secret } from '../../connection/shell.ts'
import { kubeconfigFields } from '../../kubernetes/api/kubeconfig.ts'
import type { Finding } from '../../kubernetes/health/finding.ts'
import { componentsOf } from '../../kubernetes/health/host.ts'
import { authorityOf } from '../../kubernetes/layout/authorities.ts'
import type { FoundComponent, HostLayout } from '../../kubernetes/layout/host-layout.ts'
import { kubeletFolder } from '../../kubernetes/layout/plan.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import { keyMatches } from '../../pki/certificates/certificate.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { beforehand, type OnHost } from '../given/context.ts'
import { type LookingOnHost, layoutOf, must, readingOf } from '../given/found.ts'
import { isMaster } from '../given/hosts.ts'

/** Something that somebody has left half done. */
export interface Damage {
  /** The file by which a certificate is known that is to be made anew; of a CA, its certificate. */
  readonly path: string
  readonly why: string
  /** It is a CA's: nothing that is made anew would mend it. */
  readonly authority?: true
}

/** What was seen of a host. Plain data. */
export interface Seen {
  readonly components: readonly Finding[]
  readonly damage: readonly Damage[]
  /** Files that the user of a unit could not read when that was tried, and that user: by the unit's own groups it may. */
  readonly unreadable: readonly { readonly user: string; readonly path: string }[]
}

const lookStep = 'look-what-is-down'

/** Registers what of a host serves, and what is half done there. */
export const look: StepDefinition<OnHost> = {
  id: lookStep,
  ...beforehand,
  run: async (ctx): Promise<Seen> => {
    const layout = layoutOf(ctx)
    return {
      components: await componentsOf(ctx, layout, isMaster(ctx)),
      damage: await damageOn(ctx, readingOf(ctx), layout),
      unreadable: await unreadableOn(ctx, layout),
    }
  },
}

/** What was seen of a host before the first change. Throws `HostFailedError` where nobody looked. */
export function seenOf(ctx: LookingOnHost, host = ctx.host.name): Seen {
  return must(ctx.registered<Seen>(lookStep, host), 'nobody looked what is down')
}

/** What of a host was found, and did not serve. */
export const downOf = (ctx: LookingOnHost, host = ctx.host.name): readonly Finding[] => {
  const there = Object.keys(layoutOf(ctx, host).components)
  return seenOf(ctx, host).components.filter(({ state, what }) => state === 'not well' && there.includes(what))
}

/**
 * What somebody has left half done on a host: pairs that don't match, keys that are gone, a kubelet's certificate that is no link, its kubeconfig
 * without one. Keys are compared, and kept nowhere.
 */
async function damageOn(session: HostSession, reading: MachineReading, layout: HostLayout): Promise<Damage[]> {
  const pairs = new Map<string, { readonly key: string; readonly authority: boolean }>()
  for (const { component, files } of Object.values(layout.components)) {
    for (const { path, role, key } of files)
      if (key && reading.certificates[path] !== undefined)
        pairs.set(path, { key: key.path, authority: authorityOf(component, role) !== undefined })
  }
  const damage: Damage[] = []
  for (const [path, { key, authority }] of pairs) {
    const why = await pairTrouble(session, reading.certificates[path] ?? '', path, key)
    if (why !== undefined) damage.push({ path, why, ...(authority && { authority }) })
  }
  for (const path of Object.keys(reading.kubeconfigs)) {
    const why = reading.certificates[path] === undefined ? undefined : await clientTrouble(session, path)
    if (why !== undefined) damage.push({ path, why })
  }
  return [...damage, ...kubeletTrouble(reading, layout)]
}

async function pairTrouble({ files }: HostSession, certificate: string, path: string, key: string) {
  if (!(await files.exists(key))) return `its key ${key} is not there`
  return matches(certificate, await files.readText(key)) ? undefined : `${key} is not its key: ${path} is another's`
}

async function clientTrouble({ files, host }: HostSession, path: string): Promise<string | undefined> {
  const { certificate, key } = kubeconfigFields(await files.readText(path), `${host.name}:${path}`)
  if (certificate === undefined) return undefined
  if (key === undefined) return 'it holds a certificate and no key'
  return matches(certificate, key) ? undefined : 'the key that it holds is not that of its certificate'
}

function matches(certificate: string, key: string): boolean {
  try {
    return keyMatches(certificate, secret(key).reveal())
  } catch {
    // None, or one that wants a passphrase: whoever is to go by it can't.
    return false
  }
}

function kubeletTrouble({ certificates, kubeconfigs, files = {} }: MachineReading, layout: HostLayout): Damage[] {
  const { kubelet } = layout.components
  const current = `${kubeletFolder(layout)}/kubelet-client-current.pem`
  if (!kubelet || certificates[current] === undefined) return []
  const isLink = files[current]?.real !== current
  const nameless = kubelet.files.find(
    ({ role, path }) =>
      role === 'kubeconfig' &&
      kubeconfigs[path] !== undefined &&
      certificates[path] === undefined &&
      kubeconfigs[path].certificateFile === undefined,
  )
  return [
    ...(isLink ? [] : [{ path: current, why: 'it is no link to a dated file: the kubelet can not replace it' }]),
    ...(nameless ? [{ path: current, why: `${nameless.path} names no certificate` }] : []),
  ]
}

/** The files of units that run as somebody else than root, and that this user could not read. Where nobody can become that user, none is known. */
async function unreadableOn(session: HostSession, { components }: HostLayout): Promise<Seen['unreadable']> {
  const all = await Promise.all(Object.values(components).map(found => unreadableBy(session, found)))
  return all.flat()
}

async function unreadableBy({ $ }: HostSession, { runs, files }: FoundComponent): Promise<Seen['unreadable']> {
  if (runs.kind !== 'unit') return []
  const paths = [...new Set(files.flatMap(({ path, key }) => (key ? [path, key.path] : [path])))]
  const { stdout } = await $({
    quiet: true,
    nothrow: true,
  })`u=$(systemctl show -p User --value ${runs.unit}); case $u in '' | root | 0) exit ;; esac
su -s /bin/sh "$u" -c true </dev/null || exit 0
for f in ${paths}; do [ ! -e "$f" ] || su -s /bin/sh "$u" -c 'test -r "$0"' "$f" </dev/null || echo "$u $f"; done`
  return stdout
    .split('\n')
    .filter(Boolean)
    .map(line => ({ user: line.slice(0, line.indexOf(' ')), path: line.slice(line.indexOf(' ') + 1) }))
}
