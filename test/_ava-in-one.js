// ava as a test process loads it, in one file: the four hundred that it lies in are looked for and read in half of the time that such a process
// takes to start, and there are a hundred and fifty of them. JavaScript, since ava's configuration and each test process load it first of all.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

const modules = join(import.meta.dirname, '..', 'node_modules')
const ava = join(modules, 'ava')
const worker = join(ava, 'lib', 'worker', 'base.js')
const { version } = JSON.parse(readFileSync(join(ava, 'package.json'), 'utf8'))
const folder = join(modules, '.cache', `ava-${version}`)

/** Makes it, where it is not there: to be called before there are test processes. */
export async function makeAvaInOne() {
  if (existsSync(folder)) return
  const { build } = await import('esbuild')
  const made = mkdtempSync(join(modules, '.cache-ava-'))
  try {
    await build({
      entryPoints: { worker, ava: join(ava, 'entrypoints', 'main.js') },
      ...{ bundle: true, splitting: true, format: 'esm', platform: 'node', logLevel: 'error' },
      // ava leaves out of what it tells of an error what lies in a folder of this name.
      outdir: join(made, 'ava'),
      // What of it is CommonJS asks for Node's modules so.
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    })
    writeFileSync(join(made, 'package.json'), '{ "type": "module" }')
    mkdirSync(dirname(folder), { recursive: true })
    renameSync(made, folder)
  } catch (error) {
    rmSync(made, { recursive: true, force: true })
    // Somebody else's run was quicker.
    if (!existsSync(folder)) throw error
  }
}

/** Has this process take it for ava: what ava starts, and what tests import by its name, must be one. */
export function useAvaInOne() {
  if (!existsSync(folder)) return
  const urlOf = file => pathToFileURL(join(folder, 'ava', file)).href
  const instead = new Map([
    ['ava', urlOf('ava.js')],
    [pathToFileURL(worker).href, urlOf('worker.js')],
  ])
  registerHooks({
    resolve: (specifier, context, next) => {
      const url = instead.get(specifier)
      return url ? { url, format: 'module', shortCircuit: true } : next(specifier, context)
    },
  })
}
