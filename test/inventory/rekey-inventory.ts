// Runs `rekey inventory` within the test's own process, with the arguments that ansible-inventory takes.
import { parseArgs } from 'node:util'
import { RekeyError } from '../../lib/errors.ts'
import { loadInventory } from '../../lib/inventory/index.ts'
import { isTemplate } from '../../lib/inventory/jinja/jinja-lexer.ts'
import {
  EncryptedText,
  floatText,
  isMapping,
  Timestamp,
  UnsafeText,
  type Value,
  WholeFloat,
} from '../../lib/inventory/values.ts'
import { createVault } from '../../lib/inventory/vault/vault.ts'
import { parseYaml } from '../../lib/inventory/yaml/document.ts'
import { parseJson } from '../../lib/inventory/yaml/json.ts'
import { toValue } from '../../lib/inventory/yaml/node.ts'

export interface RunOptions {
  readonly cwd: string
  readonly environment?: Readonly<Record<string, string>>
  readonly notice?: (line: string) => void
}

/** What rekey prints for these arguments. */
export async function rekeyInventory(
  args: readonly string[],
  { cwd, environment = {}, notice }: RunOptions,
): Promise<string> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      inventory: { type: 'string', short: 'i', multiple: true, default: [] },
      'extra-vars': { type: 'string', short: 'e', multiple: true },
      'vault-id': { type: 'string', multiple: true },
      'vault-password-file': { type: 'string', multiple: true },
      'playbook-dir': { type: 'string' },
      limit: { type: 'string', short: 'l' },
      list: { type: 'boolean' },
      graph: { type: 'boolean' },
      host: { type: 'string' },
      yaml: { type: 'boolean', short: 'y' },
      export: { type: 'boolean' },
      vars: { type: 'boolean' },
    },
  })
  const inventory = await loadInventory({
    sources: values.inventory,
    playbookDirectory: values['playbook-dir'] ?? cwd,
    extraVars: values['extra-vars'],
    vaultIds: values['vault-id'],
    vaultPasswordFiles: values['vault-password-file'],
    cwd,
    environment: { PATH: process.env['PATH'], ...environment },
    notice,
  })
  if (values.graph) return inventory.graph({ group: positionals[0], vars: values.vars })
  if (values.host !== undefined)
    return inventory.describeHost(values.host, { yaml: values.yaml, exported: values.export })
  return inventory.list({ limit: values.limit, yaml: values.yaml, exported: values.export })
}

/** What an output says: JSON and YAML as values that tell 1 from 1.0, a graph as its lines. */
export function readOutput(output: string, args: readonly string[]): unknown {
  if (args.includes('--graph')) return output.trimEnd().split('\n')
  const vault = createVault([])
  if (!args.includes('--yaml') && !args.includes('-y')) return comparable(parseJson(output, 'output', vault), true)
  const root = parseYaml(output, { file: 'output', vault, notice: () => {} })
  return root && comparable(toValue(root), true)
}

/**
 * A value as plain data that tells types apart, also those of keys, in the words of scripts/update-ansible-oracle.py.
 * @param sorted for what was printed: maps in the order of their keys
 */
export function comparable(value: Value, sorted = false): unknown {
  if (value === null || typeof value === 'boolean') return value
  if (typeof value === 'string') return { text: value }
  // Ansible marks in lists whatever a template made, also where nothing in it could be taken for a template.
  if (value instanceof UnsafeText && (!sorted || isTemplate(value.text))) return { unsafe: value.text }
  if (value instanceof UnsafeText) return { text: value.text }
  if (value instanceof EncryptedText) return { encrypted: value.ciphertext }
  if (value instanceof Timestamp) return { time: value.iso }
  if (Array.isArray(value)) return value.map(one => comparable(one, sorted))
  if (isMapping(value)) {
    const entries = value
      .entries()
      .map(([key, one]) => [comparable(key instanceof UnsafeText ? key.text : key), comparable(one, sorted)] as const)
    const name = ([key]: readonly [unknown, unknown]): string => JSON.stringify(key)
    return { map: sorted ? entries.sort((one, other) => (name(one) < name(other) ? -1 : 1)) : entries }
  }
  if (value instanceof WholeFloat) return { float: String(value) }
  return typeof value === 'bigint' || Number.isInteger(value) ? { int: String(value) } : { float: floatText(value) }
}

/** What a YAML text says, in the same words; the error where it is refused. */
export function readYaml(text: string): { value: unknown } | { refused: RekeyError } {
  try {
    const root = parseYaml(text, { file: '/file', vault: createVault([]), notice: () => {} })
    return { value: root ? comparable(toValue(root)) : null }
  } catch (error) {
    if (error instanceof RekeyError) return { refused: error }
    throw error
  }
}
