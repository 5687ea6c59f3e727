// Copies of the cluster's CA that somebody put aside, and the administrator's kubeconfig that only looks like one.
import { whoNames } from '../../../kubernetes/trust/beside.ts'
import type { KeysetFacts } from '../../../pki/keyset.ts'
import type { OnHost } from '../../given/context.ts'
import { type Looking, planOf } from '../../given/found.ts'
import { everyMachine } from '../../given/hosts.ts'
import { isAside, isDated } from '../../renewal/leaves.ts'
import { chosenAuthorities, type Variables } from './chosen.ts'

/**
 * Copies of the cluster's CA that nobody goes by, as far as their names and whoever names them tell: they are told, and left as they are.
 * @param reals where files lie when links are followed, by where they were found: `m1:/root/.kube/config`
 */
export async function putAside(
  ctx: Pick<OnHost<Variables>, 'vars' | 'hosts' | 'on' | 'log' | 'registered'>,
  trusters: KeysetFacts['trusters'],
  reals: ReadonlyMap<string, string> = new Map(),
): Promise<ReadonlySet<string>> {
  if (!chosenAuthorities(ctx).includes('kubernetes')) return new Set()
  const aside = new Set<string>()
  for (const host of ctx.hosts(everyMachine)) {
    const copies = trusters.filter(one => one.kind === 'copy' && one.host === host.name).map(one => pathOf(one))
    const dated = copies.filter(path => isDated(path) && !isAside(path))
    const named = dated.length > 0 ? await whoNames(await ctx.on(host), dated) : new Map<string, string>()
    const own = administratorsOn(ctx, host.name)
    const isPeoples = (path: string) => isAside(path) && !own.has(path)
    for (const path of copies.filter(one => isPeoples(one) || (dated.includes(one) && !named.has(one))))
      aside.add(`${host.name}:${path}`)
  }
  // A link to what is the cluster's own says what that says.
  const own = new Set(trusters.flatMap(({ where }) => (aside.has(where) ? [] : [where])))
  for (const where of [...aside].filter(one => !own.has(reals.get(one) ?? one)))
    ctx.log(`${where} was put aside by somebody, and goes on holding the CAs that it holds`)
  return aside
}

/** The kubeconfigs of administrators on a host that a rotation writes anew: one may lie in somebody's home, and is the cluster's. */
function administratorsOn(ctx: Looking, host: string): ReadonlySet<string> {
  return new Set(
    planOf(ctx).specs.flatMap(({ id, hosts, place }) =>
      id === 'admin' && place.kind === 'kubeconfig' && hosts.includes(host) ? [place.path] : [],
    ),
  )
}

/** The path of a file that trusts. */
export const pathOf = ({ where, host = '' }: Pick<KeysetFacts['trusters'][number], 'where' | 'host'>) =>
  where.slice(host.length + 1)
