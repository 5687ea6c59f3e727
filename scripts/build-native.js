// Builds ssh2's ciphers for the Node that package.json pins. npm has built them for the Node that it runs on itself, and the
// pinned one, which all the rest runs on, can't load those: without this every packet is sealed in JavaScript, at several times
// the cost. Makes the folder of rekey's cache, too. Plain JavaScript, as scripts/install.js. Nothing fails where
// there is no compiler.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { compileCacheFolder } from '../bin/compile-cache.cjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
// Of a clone, and of a package that was installed for everybody; or beside it, in somebody's project.
const modules = [join(root, 'node_modules'), dirname(root)].find(folder => existsSync(join(folder, 'ssh2'))) ?? root
const pinned = join(modules, `node-${process.platform}-${process.arch}`)

/** Whether the pinned Node loads them. */
function isBuilt(node) {
  const program = "process.exit(require('ssh2/lib/protocol/crypto.js').bindingAvailable ? 0 : 1)"
  return spawnSync(node, ['-e', program], { cwd: root, stdio: 'ignore' }).status === 0
}

if (existsSync(join(pinned, 'include', 'node', 'node.h'))) {
  const bin = join(pinned, 'bin')
  const node = join(bin, 'node')
  if (!isBuilt(node)) {
    // Its own headers: nothing has to be fetched.
    const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH}`, npm_config_nodedir: pinned }
    // What npm would do, which can't be asked while it installs.
    for (const folder of ['cpu-features', 'ssh2'].map(name => join(modules, name)).filter(existsSync)) {
      const { scripts } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
      spawnSync('sh', ['-c', scripts.install], { cwd: folder, env, stdio: 'ignore' })
    }
    if (!isBuilt(node))
      console.log('rekey works without compiled ciphers: slower. A C++ compiler and make would build them.')
  }
}

// Where bin/rekey keeps compiled code, once it is there.
compileCacheFolder()
