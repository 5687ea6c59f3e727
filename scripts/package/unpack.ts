// rekey as users have it: the package that `npm pack` makes, beside the libraries of the clone.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..', '..')

/** Packs this clone, unpacks it below a folder, and returns the program that is started there. */
export function unpackRekey(folder: string): string {
  const modules = join(folder, 'installed', 'node_modules')
  const own = join(modules, 'rekey')
  mkdirSync(own, { recursive: true })
  execFileSync('npm', ['pack', root, '--silent', '--pack-destination', folder], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const tarball = readdirSync(folder).find(name => name.endsWith('.tgz'))!
  execFileSync('tar', ['-xzf', join(folder, tarball), '--strip-components=1', '-C', own])
  const libraries = join(root, 'node_modules')
  for (const name of readdirSync(libraries)) {
    if (name === 'rekey' || name.startsWith('.')) continue
    symlinkSync(join(libraries, name), join(modules, name))
  }
  return join(own, 'bin', 'rekey')
}
