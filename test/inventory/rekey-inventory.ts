// Runs `rekey inventory` within the test's own process, with the arguments that ansible-inventory takes.
import { parseArgs } from 'node:util'
import { loadInventory } from '../../lib/inventory/index.ts'
import { EncryptedText, isMapping, Timestamp, UnsafeText, type Value, WholeFloat } from '../../lib/inventory/values.ts'
import { createVault } from '../../lib/inventory/vault.ts'
import { parseJson, parseYaml, toValue } from '../../lib/inventory/yaml.ts'

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
  if (values.host !== undefined) return inventory.describeHost(values.host, { yaml: values.yaml })
  return inventory.list({ limit: values.limit, yaml: values.yaml })
}

/** What an output says: JSON and YAML as values that tell 1 from 1.0, a graph as its lines. */
export function readOutput(output: string, args: readonly string[]): unknown {
  if (args.includes('--graph')) return output.trimEnd().split('\n')
  const vault = createVault([])
  if (!args.includes('--yaml') && !args.includes('-y')) return comparable(parseJson(output, 'output', vault))
  const root = parseYaml(output, { file: 'output', vault, notice: () => {} })
  return root && comparable(toValue(root))
}

/** A value as plain data that tells types apart, also those of keys. */
export function comparable(value: Value): unknown {
  if (Array.isArray(value)) return value.map(comparable)
  if (isMapping(value))
    return Object.fromEntries(value.entries().map(([key, one]) => [JSON.stringify(comparable(key)), comparable(one)]))
  if (value instanceof EncryptedText) return { encrypted: value.ciphertext }
  if (value instanceof UnsafeText) return { unsafe: value.text }
  if (value instanceof WholeFloat || value instanceof Timestamp) return { [value.constructor.name]: String(value) }
  return typeof value === 'bigint' || (typeof value === 'number' && !Number.isFinite(value))
    ? { number: String(value) }
    : value
}
