// Where this rekey is, and what of it Node can run: in a clone the TypeScript as it is; in an installed package, where Node strips no types, what
// scripts/package/build.ts compiled into dist/. Whatever else a file needs lies in both at the same place below the root.
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, sep } from 'node:path'

/** The folder of rekey's package.json. */
export const packageRoot = rootOf(import.meta.dirname)

/** Whether this is a clone, and not an installed package. */
export const isClone = import.meta.filename.endsWith('.ts')

const compiled = join(packageRoot, 'dist')

function rootOf(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : rootOf(dirname(folder))
}

/** One of rekey's own files: `ownFile('templates', 'kubeadm')`. */
export const ownFile = (...path: readonly string[]): string => join(packageRoot, ...path)

/**
 * What Node runs for one of rekey's own modules.
 * @param module its place below the root, as `lib/connection/openssh/askpass.ts`; scripts/package/build.ts has it among its entries
 */
export const ownModule = (module: string): string =>
  isClone ? ownFile(module) : join(compiled, module.replace(/\.ts$/, '.js'))

/** Whether a file is code of rekey itself, playbooks left out. */
export const isOwnCode = (file: string): boolean =>
  [ownFile('lib'), join(compiled, 'lib')].some(folder => file.startsWith(folder + sep))

/** Whether a file belongs to somebody's library: rekey's own do not, though rekey may be installed. */
export const isLibrary = (file: string): boolean =>
  file.slice(file.startsWith(packageRoot + sep) ? packageRoot.length : 0).includes('/node_modules/')

/** What package.json says. */
export function manifest(): Manifest {
  return JSON.parse(readFileSync(ownFile('package.json'), 'utf8')) as Manifest
}

interface Manifest {
  readonly version: string
  /** Its doors, by what follows `rekey` in an import: where each is in the sources. */
  readonly exports: Readonly<Record<string, string | { readonly 'rekey-source': string }>>
  readonly devDependencies: Readonly<Record<string, string>>
}

/** The commit that an installed package was made of, as git describes it; `undefined` in a clone, and where there was no git. */
export function builtFrom(): string | undefined {
  const file = join(compiled, 'commit')
  return isClone || !existsSync(file) ? undefined : readFileSync(file, 'utf8').trim() || undefined
}
