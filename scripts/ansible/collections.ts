// Modules that are not ansible-core's own: their collection, from the package that has them all.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { ansibleProgram } from '../update-ansible-core.ts'

/** The one that comes with the version of ansible-core that is asked. */
const packageVersion = '12.1.0'
const folder = join(homedir(), '.cache', 'rekey', `ansible-collections-${packageVersion}`)

/** What the environment needs for a module: nothing for one of ansible-core's own. */
export function collectionsOf(module: string): NodeJS.ProcessEnv {
  const [namespace = '', name = ''] = module.split('.')
  if (namespace === 'ansible' && name === 'builtin') return {}
  install(namespace, name)
  return { ANSIBLE_COLLECTIONS_PATH: folder }
}

function install(namespace: string, name: string): void {
  const inside = join('ansible_collections', namespace, name)
  if (existsSync(join(folder, inside))) return
  console.log(`fetching the collection ${namespace}.${name}`)
  const temporary = mkdtempSync(`${folder}-`)
  try {
    const pip = ['download', '--quiet', '--no-deps', '--dest', temporary, `ansible==${packageVersion}`]
    execFileSync(ansibleProgram('pip'), pip, { stdio: 'inherit' })
    const wheel = readdirSync(temporary).find(file => file.endsWith('.whl'))!
    // A wheel is a zip; only this part of it is taken.
    const unpack =
      'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); z.extractall(sys.argv[2], [n for n in z.namelist() if n.startswith(sys.argv[3])])'
    execFileSync(ansibleProgram('python'), ['-c', unpack, join(temporary, wheel), join(temporary, 'all'), `${inside}/`])
    mkdirSync(dirname(join(folder, inside)), { recursive: true })
    renameSync(join(temporary, 'all', inside), join(folder, inside))
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}
