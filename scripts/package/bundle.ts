// The files that rekey and most of its libraries are compiled into, which lib/packed/bundle.ts opens, and that one.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BuildOptions, build, type Metafile, type Plugin } from 'esbuild'
import { librariesInside } from './libraries.ts'

/** What its code finds of where it is, as the function that it is gets it from lib/packed/bundle.ts. */
const given = '(exports, require, module, __url, __filename, __dirname, __import)'

/** A module that V8 is given to compile can't import: what can, it is handed. */
const importsByHand: Plugin = {
  name: 'imports by hand',
  setup: ({ onLoad }) => {
    onLoad({ filter: /[/\\]lib[/\\]packed[/\\]import-module\.ts$/ }, () => ({
      contents: 'export const importModule = __import',
    }))
  },
}

/** Leaves out what is loaded only when it is used. */
const withoutCommands: Plugin = {
  name: 'without commands',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^\./ }, ({ kind, path }) =>
      kind === 'dynamic-import' ? { path, external: true } : undefined,
    ),
}

type Options = BuildOptions & { readonly metafile: true }

/**
 * Writes `dist/lib/rekey.cjs`: a function that makes the modules in `places` available by those places, each evaluated when it is asked for first.
 * @param options what all of the package is compiled with
 */
export const bundleOf = (places: readonly string[], root: string, options: Options): Promise<Metafile> =>
  write('rekey', places, root, { ...options, plugins: [importsByHand, librariesInside(root)] })

/** Writes `dist/lib/words.cjs`, the same of a module alone: without what that loads only when it is used. */
export const wordsOf = (place: string, root: string, options: Options): Promise<Metafile> =>
  write('words', [place], root, { ...options, plugins: [withoutCommands, librariesInside(root)] })

/** Writes `dist/lib/bundle.cjs`, which opens them. */
export async function openerOf(root: string, options: Options): Promise<Metafile> {
  const { metafile } = await build({
    ...options,
    entryPoints: ['lib/packed/bundle.ts'],
    outfile: join(root, 'dist', 'lib', 'bundle.cjs'),
    format: 'cjs',
    define: { 'import.meta.url': '__url' },
    banner: { js: "const __url = require('node:url').pathToFileURL(__filename).href" },
  })
  return metafile
}

async function write(name: string, places: readonly string[], root: string, options: Options): Promise<Metafile> {
  const lines = places.map(place => `  ${JSON.stringify(place)}: () => require(${JSON.stringify(`./${place}`)}),`)
  const outfile = join(root, 'dist', 'lib', `${name}.cjs`)
  const { outputFiles, metafile } = await build({
    ...options,
    stdin: { contents: ['module.exports = {', ...lines, '}'].join('\n'), resolveDir: root, sourcefile: `${name}.js` },
    outfile,
    format: 'cjs',
    define: { 'import.meta.url': '__url', 'import.meta.filename': '__filename', 'import.meta.dirname': '__dirname' },
    // Modules are strict, and so is what is made of them.
    banner: { js: `(function ${given} { 'use strict';` },
    footer: { js: '})' },
    supported: { 'dynamic-import': false },
    legalComments: 'none',
    write: false,
  })
  for (const { path, text } of outputFiles) writeFileSync(path, path === outfile ? ascii(text) : text)
  return metafile
}

/** What esbuild leaves of other characters is in comments, regular expressions and templates: each means the same when it is escaped. */
const ascii = (code: string) =>
  code.replace(/[^\0-\x7f]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
