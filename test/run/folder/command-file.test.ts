// What of a command line is kept for whoever goes on with its run.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { readCommand } from '../../../lib/run/folder/command-file.ts'
import { temporaryFolder } from '../../_temporary.ts'

const module = JSON.stringify(join(import.meta.dirname, '..', '..', '..', 'lib', 'run', 'folder', 'command-file.ts'))

test('it is there as a whole or not at all, whenever its writer was killed', async t => {
  const parent = temporaryFolder('command')
  let [absent, whole] = [0, 0]
  // On a busy machine it may have been quicker than we each time: then once more.
  const pauses: (number | undefined)[] = [undefined, 16, 8, 4, 2, 1, 0]
  for (let index = 0; index < pauses.length; index++) {
    const milliseconds = pauses[index]
    const folder = join(parent, String(index))
    const secrets = join(folder, 'secrets')
    mkdirSync(secrets, { recursive: true })
    // So many bytes that writing them takes a while.
    const script = `const { writeCommand } = await import(${module})
await writeCommand(${JSON.stringify(folder)}, { inventory: ['x'.repeat(20_000_000)], extraVars: [] })`
    const writer = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'inherit' })
    const ended = once(writer, 'exit')
    const begun = () => readdirSync(secrets).length > 0
    while (!begun() && writer.exitCode === null) await delay(0)
    await (milliseconds === undefined ? ended : Promise.race([delay(milliseconds, undefined, { ref: false }), ended]))
    writer.kill('SIGKILL')
    await ended
    const read = readCommand(folder)
    const command = 'command' in read ? read.command : undefined
    if (command) whole++
    else absent++
    if (index === pauses.length - 1 && absent === 0 && index < 50) pauses.push(0)
    t.true(command === undefined || command.inventory[0]?.length === 20_000_000, `after ${milliseconds} ms`)
  }
  t.true(absent > 0 && whole > 0, `${absent} absent, ${whole} whole`)
})
