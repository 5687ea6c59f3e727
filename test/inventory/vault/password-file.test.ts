// Where a password comes from: a file, a program, or the pipe that a shell makes of <(command).
import { execFileSync } from 'node:child_process'
import { createWriteStream, mkdirSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { readPasswordFile } from '../../../lib/inventory/vault/password-file.ts'
import { temporaryFolder } from '../../_temporary.ts'

const of = { what: 'vault password', code: 'x' }

test('a pipe gives what comes out of it, also a while later, and no more than a password is', async t => {
  const pipe = join(temporaryFolder('pipe'), 'pipe')
  execFileSync('mkfifo', [pipe])
  // Kept open, as the shell does that made it.
  const held = await open(pipe, 'r+')
  const later = readPasswordFile(pipe, of)
  const writer = createWriteStream(pipe)
  setTimeout(() => writer.end('of-the-pipe\n'), 100)
  writer.on('close', () => void held.close())
  t.is(await later, 'of-the-pipe')
  const again = await open(pipe, 'r+')
  const flood = readPasswordFile(pipe, of)
  const most = createWriteStream(pipe).on('error', () => {})
  most.end('x'.repeat(200_000))
  await t.throwsAsync(flood, { message: /more comes out of the pipe than a password is$/ })
  await again.close()
})

test('what gives none is one error, in words', async t => {
  const folder = temporaryFolder('passwords')
  const program = (name: string, text: string) => {
    writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
    return join(folder, name)
  }
  mkdirSync(join(folder, 'folder'))
  const cases: readonly (readonly [string, RegExp])[] = [
    [program('endless', 'yes'), /endless: it prints more than a password is$/],
    [program('loud', 'yes >&2'), /loud: it prints more than a password is$/],
    [program('fails', 'echo not today >&2; exit 3'), /fails: not today$/],
    [program('silent', 'exit 3'), /silent: exit code 3$/],
    [program('empty', ':'), /empty: it gives an empty password$/],
    [join(folder, 'folder'), /folder: it is no file$/],
    ['/dev/zero', /\/dev\/zero: it is no file$/],
    [join(folder, 'none'), /none: there is no such file$/],
  ]
  for (const [file, message] of cases) await t.throwsAsync(readPasswordFile(file, of), { message, code: 'x' }, file)
})
