// The name of the cluster, typed by whoever has read what will be lost.
import { z } from 'zod'
import { HostFailedError } from '../errors.ts'
import { commandLineOnly } from '../playbook/variables.ts'

/** The cluster's name once more: it counts where it was typed, and not where it stands for all time in an inventory. */
export const confirm = commandLineOnly(z.string().optional())

/**
 * Fails where somebody has not typed a name, or has typed another one.
 * @param what of the name nobody has confirmed: `may be interrupted`
 * @param page where it stands what comes of it
 * @param variable what it is typed as
 */
export function requireTyped(
  typed: string | undefined,
  name: string,
  {
    what,
    page,
    code,
    variable = 'confirm',
    hint = '',
  }: {
    readonly what: string
    readonly page: string
    readonly code: string
    readonly variable?: string
    readonly hint?: string
  },
): void {
  if (typed === name) return
  const isPlain = /^[\w.:@/-]+$/.test(name)
  throw new HostFailedError(
    typed === undefined
      ? `nobody has confirmed that ${name} ${what}`
      : `${name} was to be confirmed, and ${JSON.stringify(typed)} was`,
    {
      code,
      hint: `Read ${page}; then type its name: -e ${isPlain ? `${variable}=${name}` : `'${variable}="${name}"'`}${hint}`,
    },
  )
}
