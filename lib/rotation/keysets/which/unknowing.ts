// Servers that knew nobody of a keyset when a stage began, by what was registered of them.
import type { Door } from '../../../kubernetes/probes/doors.ts'
import type { OnHost } from '../../given/context.ts'

/** The step that registers the servers that know nobody by these keysets. */
export const unknowingStep = 'note-which-servers-know-the-clients-of-these-cas'

/** A server that knew no client of a keyset, or did not answer at all, when the stage began. Runs of before registered its place alone. */
export type Unknowing = { readonly where: string; readonly silent?: true } | string

/** What a server is called for as long as it is the same: an extension of the API is that in another pod, too. */
const nameOf = (where: string) => where.replace(/^(extension API server \S+) at .*$/, '$1')

/** Those that were noted, by their names; undefined of one that was not. */
export function notedUnknowing(
  ctx: Pick<OnHost, 'registered'>,
): (door: Door) => Exclude<Unknowing, string> | undefined {
  const noted = (ctx.registered<Unknowing[]>(unknowingStep) ?? []).map(one =>
    typeof one === 'string' ? { where: one } : one,
  )
  const byName = new Map(noted.map(one => [nameOf(one.where), one]))
  return ({ where }) => byName.get(nameOf(where))
}
