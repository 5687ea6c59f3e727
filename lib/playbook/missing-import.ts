// A name that a playbook uses and does not import: from where it is to be had.
import { pathToFileURL } from 'node:url'
import { ownModule } from '../package.ts'

/** rekey's doors, by what playbooks import them as; the first that has a name counts. */
const doors = {
  rekey: 'lib/index.ts',
  'rekey/kubernetes': 'lib/kubernetes/index.ts',
  'rekey/pki': 'lib/pki/index.ts',
  'rekey/rotation': 'lib/rotation/index.ts',
}

/**
 * What to import, where an error came of a name that was not imported, or not from where it is.
 * @returns a hint; undefined where the error came of something else, or nobody has that name
 */
export async function missingImport({ message }: Error): Promise<string | undefined> {
  const [, undefinedName, module, notExported] =
    /^([\w$]+) is not defined$|^The requested module '([^']+)' does not provide an export named '([\w$]+)'$/.exec(
      message,
    ) ?? []
  const name = undefinedName ?? notExported
  if (name === undefined) return undefined
  if (name === 'z') return "Write: import { z } from 'zod'"
  for (const [door, file] of Object.entries(doors)) {
    // Loaded by the playbook already, or by what it would have imported.
    const exported = (await import(pathToFileURL(ownModule(file)).href)) as object
    if (name in exported) return `Write: import { ${name} } from '${door}'`
  }
  return module !== undefined && module in doors
    ? `Where it is a type, write: import { type ${name} } from '${module}'`
    : undefined
}
