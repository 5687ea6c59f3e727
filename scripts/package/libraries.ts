// Libraries that go into rekey's own files: those that every start needs, since Node takes longer to find a file than to read it.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Metafile, Plugin } from 'esbuild'

/**
 * Those, and what they consist of; and those of the tree and the command line, whose packages want a newer Node than some machine has that installs
 * rekey. None that a playbook may have another copy of: zod, which it imports, is a door (lib/playbook/zod/index.ts).
 */
const inside = [
  '@noble/hashes',
  '@promptctl/go-template-js',
  'ansi-escapes',
  'ansi-regex',
  'ansi-styles',
  'asn1',
  'bcrypt-pbkdf',
  'cli-cursor',
  'cli-truncate',
  'commander',
  'environment',
  'eventemitter3',
  'get-east-asian-width',
  'is-fullwidth-code-point',
  'js-yaml',
  'listr2',
  'log-update',
  'mimic-function',
  'node-ssh',
  'onetime',
  're2js',
  'restore-cursor',
  'rfdc',
  'safer-buffer',
  'signal-exit',
  'slice-ansi',
  'ssh2',
  'string-width',
  'strip-ansi',
  'tweetnacl',
  'wrap-ansi',
  'zod',
] as const

/** What they load that rekey has no use for, by whom, and what takes its place: lib/cli/lean-start.ts does the same for a clone. */
const needless = [
  [/^\.\.\/locales\/index\.c?js$/, '/zod/', 'lib/playbook/zod/locales.ts'],
  [/^\.\/http-agents\.js$/, '/ssh2/', 'node:path'],
  [/^make-dir$/, '/node-ssh/', 'node:path'],
] as const

/** Has esbuild take them in, and leave every other library where npm puts it. */
export const librariesInside = (root: string): Plugin => ({
  name: 'libraries inside',
  setup({ onResolve }) {
    onResolve({ filter: /^[^/]/ }, ({ path, importer, kind }) => {
      if (kind === 'entry-point') return undefined
      const found = needless.find(([what, by]) => what.test(path) && importer.includes(by))
      if (found)
        return found[2].startsWith('node:') ? { path: found[2], external: true } : { path: join(root, found[2]) }
      // Where it was compiled, it lies in the library.
      if (path.endsWith('/sshcrypto.node'))
        return { path: `ssh2/lib/protocol/crypto/build/Release/sshcrypto.node`, external: true }
      const isInside = inside.some(name => path === name || path.startsWith(`${name}/`))
      return path.startsWith('.') || isInside ? undefined : { path, external: true }
    })
  },
})

/** For a file of esbuild's: libraries that are no modules ask for the others, and for Node's own parts, by `require`, and for their folder. */
export const asksByRequire = [
  "import { createRequire as requireOf } from 'node:module'",
  'const require = requireOf(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname',
].join('\n')

/** The licences of the libraries that went in, which go with them. */
export function licencesOf(root: string, metafiles: readonly Metafile[]): string {
  const inputs = metafiles.flatMap(({ inputs }) => Object.keys(inputs))
  const names = inputs.flatMap(input => /^.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1] ?? [])
  const texts = [...new Set(names)].sort().map(name => {
    const folder = join(root, 'node_modules', name)
    const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<
      string,
      string
    >
    const file = ['LICENSE', 'LICENSE.md', 'LICENCE', 'LICENSE.txt', 'license'].find(one =>
      existsSync(join(folder, one)),
    )
    if (file === undefined && license === undefined) throw new Error(`${name} has no licence`)
    return `${name} ${version}\n\n${file === undefined ? license : readFileSync(join(folder, file), 'utf8').trim()}\n`
  })
  return texts.join(`\n${'-'.repeat(80)}\n\n`)
}
