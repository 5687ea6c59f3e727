// Variables that ansible-vault had encrypted: once they are open, they are secrets.
import { tellSecret } from '../../secrets/index.ts'
import type { Assignments, InventoryData } from '../groups.ts'
import { isTemplate } from '../jinja/jinja-lexer.ts'
import { EncryptedText, isMapping, Timestamp, UnsafeText, WholeFloat } from '../values.ts'

/** The variables of an encrypted file, each told to be a secret. What their templates come to is told when that is known. */
export function vaulted(variables: Assignments): Assignments {
  for (const [name, assignment] of variables) {
    tellValue(assignment.value, name)
    variables.set(name, { ...assignment, vaulted: true })
  }
  return variables
}

/** The same for all that an encrypted inventory sets. */
export function vaultedInventory({ groups, hosts }: InventoryData, file: string): void {
  for (const { vars } of [...groups.values(), ...hosts.values()]) {
    const own = [...vars].filter(([, { origin }]) => origin.file === file)
    for (const [name, assignment] of vaulted(new Map(own))) vars.set(name, assignment)
  }
}

/** Tells of every text and number in a value; what is true, false or nothing is no secret. */
export function tellValue(value: unknown, name: string): void {
  if (Array.isArray(value)) for (const item of value) tellValue(item, name)
  else if (isMapping(value)) for (const item of value.values()) tellValue(item, name)
  else if (typeof value === 'string') {
    if (!isTemplate(value)) tellSecret(value, name)
  } else if (typeof value === 'number' || typeof value === 'bigint') tellSecret(String(value), name)
  else if (value instanceof UnsafeText || value instanceof Timestamp || value instanceof WholeFloat)
    tellSecret(String(value), name)
  else if (value instanceof EncryptedText) value.decrypt()
}
