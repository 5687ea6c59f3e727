// Which keysets a run is about: those that were named; where none was, all that the cluster has and that can be rotated there.
import { z } from 'zod'
import { type KeysetName, keysetNames } from '../../../pki/keyset.ts'
import { type AuthorityName, authorityNames } from '../../../pki/specs.ts'
import { listed } from '../../../playbook/variables.ts'
import { type Looking, type Plan, planStep } from '../../given/found.ts'

const wanted = `all, or some of ${keysetNames.join(',')}`

/** What stands for all that the cluster has. */
export const every = 'all'

const alone = (value: unknown) => (Array.isArray(value) && value.length === 1 && value[0] === every ? every : value)

export const variables = {
  /** Which keysets: `all` that the cluster has and that can be rotated there; or a list, or names with commas between them. */
  keysets: z
    .preprocess(
      value => alone(listed(value)),
      z.union([z.literal(every), z.array(z.enum(keysetNames), { error: wanted }).min(1, wanted)], { error: wanted }),
    )
    .default(every),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** What says which keysets a run is about. Before these are planned they are those that were asked for. */
type Choosing = { readonly vars: Variables } & Partial<Looking>

/** The keysets that were asked for. */
export function askedKeysets({ keysets }: Variables): readonly KeysetName[] {
  return keysets === every ? keysetNames : keysets
}

/** The keysets of a run. */
export function chosenKeysets({ vars, registered }: Choosing): readonly KeysetName[] {
  // A run that an earlier version began went by what was asked for.
  return registered?.<Plan>(planStep)?.keysets ?? askedKeysets(vars)
}

/** The roles of CAs that a run is about. */
export function chosenAuthorities(ctx: Choosing): AuthorityName[] {
  return authoritiesIn(chosenKeysets(ctx))
}

/** The roles of CAs among keysets. */
export function authoritiesIn(keysets: readonly KeysetName[]): AuthorityName[] {
  return authorityNames.filter(authority => keysets.includes(keysetOf(authority)))
}

/** Whether a run is about the key that signs tokens of service accounts, which is no CA's. */
export function tokensChosen(ctx: Choosing): boolean {
  return chosenKeysets(ctx).includes(tokenKeyset)
}

/** The keyset of a role. */
export function keysetOf(authority: AuthorityName): KeysetName {
  return `${authority}-ca`
}

/** The roles that one CA serves, one at least. */
type Group = readonly [AuthorityName, ...AuthorityName[]]

/** The chosen roles by the CAs that serve them: mostly one each. */
export function groupsOf(chosen: readonly AuthorityName[], sharing: Plan['sharing'] = []): Group[] {
  const groups: Group[] = []
  for (const name of chosen) {
    if (groups.some(group => group.includes(name))) continue
    const others =
      sharing.find(group => group.includes(name))?.filter(one => one !== name && chosen.includes(one)) ?? []
    groups.push([name, ...others])
  }
  return groups
}

/** The keyset without certificates. */
export const tokenKeyset = 'service-account'

/**
 * What to say besides where a run is about all keysets and some don't stand as its stage needs: to name those that do. Begins with a space; empty where
 * they were named, or none does.
 */
export function orNamed({ vars }: { readonly vars: unknown }, those: readonly KeysetName[]): string {
  const { keysets } = vars as Partial<Variables>
  return keysets === every && those.length > 0
    ? ` Or have it go over the others alone: -e keysets=${those.join(',')}.`
    : ''
}
