// A playbook's variables: taken from the inventory and `-e`, checked by its schema before anything connects.
import { z } from 'zod'
import { errorOf, RekeyError, thrownAt } from '../errors.ts'
import { suggestion } from '../suggestion.ts'
import type { Host } from './host.ts'
import type { Playbook } from './model.ts'
import { Stray, within } from './stray.ts'

/** The variables that a schema takes, by name; undefined where it is none of zod's for an object, whatever becomes of it. */
export function schemaShape(schema: unknown): Readonly<Record<string, z.core.$ZodType>> | undefined {
  if (schema instanceof z.core.$ZodPipe) return schemaShape(schema._zod.def.in)
  return schema instanceof z.core.$ZodObject ? schema._zod.def.shape : undefined
}

/**
 * A variable that counts from `-e` alone, such as the word of whoever has read what will be lost: what stands in an inventory was written for another
 * day. Where it stands there and nowhere else, that is refused by its name.
 * @param schema as it stands in the playbook's: `.optional()`, `.default()` come before
 */
export function commandLineOnly<Schema extends z.ZodType>(schema: Schema): Schema {
  return schema.meta({ commandLineOnly: true })
}

/** Names with commas between them, as people give them on a command line, as a list; anything else as it is, for zod's `preprocess`. */
export const listed = (value: unknown): unknown =>
  typeof value === 'string' ? value.split(',').map(name => name.trim()) : value

function isCommandLineOnly(schema: z.core.$ZodType | undefined): boolean {
  return schema !== undefined && z.globalRegistry.get(schema)?.['commandLineOnly'] === true
}

/** The names of a playbook's variables. */
export function variableNames({ vars }: Pick<Playbook, 'vars'>): string[] {
  return Object.keys(schemaShape(vars) ?? {})
}

/**
 * Resolves a playbook's variables. They belong to the cluster, so every host must have the same value.
 * @param hosts the hosts of the run
 * @param extra names given with `-e`, which must be known to somebody
 * @param isKnown whether the inventory sets a variable too, which then may be set with `-e`
 * @throws RekeyError naming the variable that is unknown, stands where it must not, differs between hosts, or does not fit the schema
 */
export async function resolveVariables(
  playbook: Playbook,
  hosts: readonly Host[],
  extra: readonly string[],
  isKnown: (name: string) => boolean,
): Promise<unknown> {
  const names = variableNames(playbook)
  for (const name of extra) {
    if (names.includes(name) || isKnown(name) || name.startsWith('ansible_') || name === 'rekey_directory') continue
    throw new RekeyError(`-e ${name}: ${playbook.name} has no such variable${suggestion(name, names)}`, {
      code: 'playbook.unknown-variable',
      hint: `It takes: ${names.join(', ') || 'none'}.`,
    })
  }
  const values: Record<string, unknown> = {}
  const shape = schemaShape(playbook.vars) ?? {}
  for (const name of names) {
    if (isCommandLineOnly(shape[name]) && !extra.includes(name) && hosts.some(({ vars }) => vars[name] !== undefined))
      throw new RekeyError(
        `${name} stands in the inventory, where it would hold for every run: it counts from -e alone`,
        {
          code: 'playbook.command-line-only',
          hint: `Take ${name} out of the inventory. It is typed for each run: -e ${name}=…`,
        },
      )
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
  let checked = await parse(playbook, values)
  const read = !checked.success && checked.error.issues.map(one => readAsAsked(one, extra, values)).includes(true)
  if (read) checked = await parse(playbook, values)
  if (checked.success) return checked.data
  const { issues } = checked.error
  const problems = issues.map(({ path, message }) => `  ${path.join('.') || playbook.name}: ${message}`)
  const noText = issues.some(({ code, path: [name = ''] }) => code === 'invalid_type' && extra.includes(String(name)))
  throw new RekeyError(`the variables of ${playbook.name} are not right:\n${problems.join('\n')}`, {
    code: 'playbook.variables',
    hint: noText
      ? 'What is no text is given as YAML or JSON: -e \'{"name": …}\'.'
      : 'Set them in group_vars/all.yml, or with -e.',
  })
}

/** Checks values by a schema; what its own code throws is an error of the playbook. */
async function parse({ name, vars }: Playbook, values: Readonly<Record<string, unknown>>) {
  try {
    return await within({ what: 'the schema of its variables' }, () => vars.safeParseAsync(values))
  } catch (thrown) {
    const error = errorOf(thrown instanceof Stray ? thrown.thrown : thrown)
    const place = thrownAt(error)
    throw new RekeyError(`the variables of ${name} can't be checked: ${error.message}`, {
      code: 'playbook.variables',
      hint: place === undefined ? 'Its schema throws.' : `Its schema throws, at ${place}.`,
      cause: error,
    })
  }
}

/**
 * `-e name=value` is text, whatever it looks like. Where a number or a truth value is asked for, and the text is one, puts that in its
 * place. Returns whether it did.
 */
function readAsAsked(issue: z.core.$ZodIssue, extra: readonly string[], values: Record<string, unknown>): boolean {
  if (issue.code !== 'invalid_type' || issue.path.length !== 1) return false
  const name = String(issue.path[0])
  const text = values[name]
  if (!extra.includes(name) || typeof text !== 'string') return false
  const word = text.trim()
  if (/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(word) && ['number', 'int'].includes(issue.expected))
    values[name] = Number(word)
  else if (issue.expected === 'boolean' && /^(true|yes|on)$/i.test(word)) values[name] = true
  else if (issue.expected === 'boolean' && /^(false|no|off)$/i.test(word)) values[name] = false
  return values[name] !== text
}
