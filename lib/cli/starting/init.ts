// `rekey init`: a repository for playbooks of one's own, to start from.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { Command } from 'commander'
import { quote } from '../../connection/shell.ts'
import { RekeyError } from '../../errors.ts'
import { say } from '../../output/print.ts'
import { isClone, manifest, ownFile, packageRoot } from '../../package.ts'

/** What may be there already: a repository that was just made, on a server or here. */
const harmless = new Set(['.git', 'LICENSE'])

export function initCommand(): Command {
  return new Command('init')
    .description('make a repository for playbooks of your own: an inventory, a playbook with its test, a template')
    .argument('<folder>', 'where; made where it is missing, and empty otherwise')
    .action((folder: string) => {
      const path = resolve(folder)
      makeRepository(path)
      say(`${path} is there. Next:\n  ${packing(path)}\n  cd ${quote(folder)}\n  npm install\n  npm test`)
    })
}

/** The command that puts the package of this rekey into the repository. What was installed is built already, and has nothing to build it with. */
function packing(path: string): string {
  const options = [...(isClone ? [] : ['--ignore-scripts']), '--pack-destination', quote(path)]
  return `(cd ${quote(packageRoot)} && npm pack ${options.join(' ')})`
}

/** Makes the repository. Throws `RekeyError` where something is there that it would lie among. */
function makeRepository(path: string): void {
  const others = existsSync(path) ? readdirSync(path).filter(name => !harmless.has(name)) : []
  if (others.length > 0)
    throw new RekeyError(`${path} is not empty: ${others.slice(0, 3).join(', ')}${others.length > 3 ? ', …' : ''}`, {
      code: 'init.not-empty',
      hint: 'Name a folder that is not there yet.',
    })
  mkdirSync(path, { recursive: true })
  cpSync(ownFile('templates', 'repository'), path, { recursive: true })
  // Under its own name npm would take it for what to leave out of the package.
  renameSync(join(path, 'gitignore'), join(path, '.gitignore'))
  const name = packageName(basename(path))
  const readme = join(path, 'README.md')
  writeFileSync(readme, readFileSync(readme, 'utf8').replace('NAME', name))
  writeFileSync(join(path, 'package.json'), `${JSON.stringify(packageFile(name), undefined, 2)}\n`)
}

function packageFile(name: string): object {
  const { version, devDependencies } = manifest()
  return {
    name,
    private: true,
    type: 'module',
    scripts: { test: 'node --test', types: 'tsc' },
    devDependencies: {
      '@types/node': devDependencies['@types/node'],
      // By name alone npm would ask the registry, where rekey is somebody else's.
      rekey: `file:rekey-${version}.tgz`,
      typescript: devDependencies['typescript'],
    },
  }
}

/** A name that npm takes. */
const packageName = (folder: string) =>
  folder
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+|-+$/g, '') || 'playbooks'
