// `npm test`'s first part: lint and types side by side, what each has to say as one piece. Ends with 1 where one of them fails.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Resolves with whether a script of package.json went well, once all that it says has been written. Without npm, whose start takes half a second. */
function passes(script) {
  const color = process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}
  const path = [join(root, 'node_modules', '.bin'), process.env.PATH].join(':')
  const child = spawn(scripts[script], {
    ...{ cwd: root, shell: true, stdio: ['ignore', 'pipe', 'pipe'] },
    env: { ...process.env, ...color, PATH: path },
  })
  const said = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => said.push(chunk))
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', code => {
      process.stdout.write(Buffer.concat(said), () => resolve(code === 0))
    })
  })
}

const passed = await Promise.all(['lint', 'types'].map(passes))
if (passed.includes(false)) process.exitCode = 1
