// `npm test`'s first part: lint and types side by side, what each has to say as one piece. Ends with 1 where one of them fails.
import { spawn } from 'node:child_process'

/** Resolves with whether an npm script went well, once all that it says has been written. */
function passes(script) {
  const color = process.stdout.isTTY ? { FORCE_COLOR: '1' } : {}
  const child = spawn('npm', ['run', '--silent', script], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...color },
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
