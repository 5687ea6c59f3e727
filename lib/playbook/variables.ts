// A playbook's variables: taken from the inventory and `-e`, checked by its schema before anything connects.
import { z } from 'zod'
import { RekeyError } from '../errors.ts'
import { suggestion } from '../suggestion.ts'
import type { Host } from './host.ts'
import type { Playbook } from './model.ts'

/** The names of a playbook's variables. */
export function variableNames(playbook: Playbook): string[] {
  return playbook.vars instanceof z.ZodObject ? Object.keys(playbook.vars.shape) : []
}

/**
 * Resolves a playbook's variables. They belong to the cluster, so every host must have the same value.
 * @param hosts the hosts of the run
 * @param extra names given with `-e`, which must be known to somebody
 * @param isKnown whether the inventory sets a variable too, which then may be set with `-e`
 * @throws RekeyError naming the variable that is unknown, differs between hosts, or does not fit the schema
 */
export function resolveVariables(
  playbook: Playbook,
  hosts: readonly Host[],
  extra: readonly string[],
  isKnown: (name: string) => boolean,
): unknown {
  const names = variableNames(playbook)
  for (const name of extra) {
    if (names.includes(name) || isKnown(name) || name.startsWith('ansible_')) continue
    throw new RekeyError(`-e ${name}: ${playbook.name} has no such variable${suggestion(name, names)}`, {
      code: 'playbook.unknown-variable',
      hint: `It takes: ${names.join(', ') || 'none'}.`,
    })
  }
  const values: Record<string, unknown> = {}
  for (const name of names) {
    for (const { name: host, vars } of hosts) {
      const value = vars[name]
      if (value === undefined) continue
      if (!(name in values)) values[name] = value
      else if (JSON.stringify(values[name]) !== JSON.stringify(value)) {
        throw new RekeyError(
          `${name} differs between hosts, ${host} among them: it must be the same for the whole cluster`,
          {
            code: 'playbook.variable-differs',
            hint: `Set ${name} in group_vars/all.yml, or with -e.`,
          },
        )
      }
    }
  }
  const checked = playbook.vars.safeParse(values)
  if (checked.success) return checked.data
  const problems = checked.error.issues.map(({ path, message }) => `  ${path.join('.') || playbook.name}: ${message}`)
  throw new RekeyError(`the variables of ${playbook.name} are not right:\n${problems.join('\n')}`, {
    code: 'playbook.variables',
    hint: 'Set them in group_vars/all.yml, or with -e.',
  })
}
