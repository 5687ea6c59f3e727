// How the files of a playbook are loaded, wherever they lie: what they may import by name, and that a .ts file is a module.
import { readFileSync } from 'node:fs'
import { registerHooks, stripTypeScriptTypes } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { isClone, manifest, ownFile, ownModule } from '../package.ts'
import { importModule } from '../packed/import-module.ts'

/** What the doors of package.json are in a clone: the sources. */
const sources = 'rekey-source'
/** Where rekey's own files are, in a clone and in a package. */
const own = pathToFileURL(isClone ? ownFile('lib') : ownFile('dist', 'lib')).href
/** The zod of an installed rekey, which is in its own files. */
const ownZod = pathToFileURL(ownModule('lib/playbook/zod/index.ts')).href
let shared = false
let stripping = false

/**
 * From now on `rekey`, `zod` and `zx` are those of this rekey for every file that is no library's: two of them would not know each other's
 * errors, secrets and schemas. A `.ts` file is a module, whatever a `package.json` above it says, and in a library, too.
 */
export function shareImports(): void {
  if (shared) return
  shared = true
  registerHooks({
    resolve: (specifier, context, next) => {
      const { parentURL = '' } = context
      // Hundreds of files of rekey's own import each other: what needs nothing is asked nothing. A playbook is asked for by its URL.
      if (parentURL.startsWith(own) && !specifier.startsWith('file:')) return next(specifier, context)
      const isOwn = !parentURL.includes('/node_modules/')
      if (!isClone && isOwn && /^zod(?:\/v4)?$/.test(specifier)) return next(ownZod, context)
      const [, name] = /^(rekey|zod|zx)(?:\/|$)/.exec(specifier) ?? []
      const ours = name === 'rekey' || (name !== undefined && isOwn)
      const found = ours
        ? next(specifier, {
            ...context,
            parentURL: import.meta.url,
            conditions: isClone ? [...context.conditions, sources] : context.conditions,
          })
        : next(specifier, context)
      if (!isTypeScript(found.url) || found.format === 'module-typescript') return found
      if (found.url.includes('/node_modules/')) stripInLibraries()
      return { ...found, format: 'module-typescript' }
    },
  })
}

/** Node strips no types there. Every file that is loaded passes through this, so it waits for the first that needs it. */
function stripInLibraries(): void {
  if (stripping) return
  stripping = true
  registerHooks({
    load: (url, context, next) => {
      if (!isTypeScript(url) || !url.includes('/node_modules/')) return next(url, context)
      return { format: 'module', source: withoutTypes(readFileSync(fileURLToPath(url), 'utf8')), shortCircuit: true }
    },
  })
}

/** Node does the same for files of one's own, without a word; here it would warn that it may come to be called otherwise. */
function withoutTypes(source: string): string {
  const { emitWarning } = process
  process.emitWarning = () => {}
  try {
    return stripTypeScriptTypes(source)
  } finally {
    process.emitWarning = emitWarning
  }
}

const isTypeScript = (url: string) => url.startsWith('file:') && /\.m?ts(?:\?|$)/.test(url)

/** rekey's doors: what playbooks import each as, and where it is; the first that has a name counts. */
const doorsOf = ({ exports }: ReturnType<typeof manifest>) =>
  Object.entries(exports).flatMap(([path, door]) =>
    typeof door === 'string' ? [] : [[`rekey${path.slice(1)}`, door[sources]] as const],
  )

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
  const doors = doorsOf(manifest())
  for (const [door, file] of doors) {
    // Loaded by the playbook already, or by what it would have imported.
    const exported = await importModule(pathToFileURL(ownModule(file)).href)
    if (name in exported) return `Write: import { ${name} } from '${door}'`
  }
  return doors.some(([door]) => door === module)
    ? `Where it is a type, write: import { type ${name} } from '${module}'`
    : undefined
}
