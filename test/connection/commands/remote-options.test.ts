// What `$({…})` is given by mistake, or out of habit from zx: refused before the command runs.
import test from 'ava'
import { connectLocal } from '../../../lib/connection/local.ts'
import { remoteShell } from '../../../lib/connection/remote.ts'
import { secret } from '../../../lib/connection/shell.ts'

const $ = remoteShell(connectLocal('h1', { host: '127.0.0.1', port: 22, user: 'nobody' } as never)) as (
  options: unknown,
) => (pieces: TemplateStringsArray) => Promise<{ stdout: string }>

test('an option that there is not, or of the wrong kind, is refused: no command runs as if it had not been said', t => {
  const cases: readonly (readonly [unknown, RegExp, RegExp?])[] = [
    [{ timeout: '1s' }, /^\$\(\{ timeout \}\): it must be a number of milliseconds, not of the type string$/],
    [{ timeout: Number.NaN }, /not NaN$/],
    [{ timeout: -1 }, /not -1$/],
    [{ nothrows: true }, /there is no such option; did you mean 'nothrow'\?$/, /^It takes input, timeout, /],
    [{ quiet: 'no' }, /it must be true or false/],
    [{ nothrow: null }, /not null$/],
    [{ env: { A: '1' } }, /\(\{ env \}\): there is no such option/, /env NAME=value/],
    [{ constructor: 1 }, /no such option/],
    [{ input: 5 }, /it must be a text, bytes, a stream or a secret\(\)/],
    [{ cwd: '' }, /it must be the path of a folder/],
    [{ environment: 'VAULT_TOKEN' }, /it must be a list of names/],
    ['true', /^\$\(\) takes options or a command as a template, not string$/],
    [undefined, /not undefined$/],
  ]
  for (const [options, message, hint = /^/] of cases) {
    const error = t.throws<Error & { hint?: string }>(() => $(options), { message, code: 'remote.option' })
    t.regex(error?.hint ?? '', hint)
  }
})

test('what may be said is taken', async t => {
  for (const options of [{}, { input: 'a' }, { input: Buffer.from('a') }, { input: secret('whisper-it') }])
    t.is(
      (await $({ timeout: 60_000, quiet: true, nothrow: false, cwd: '/', environment: [], ...options })`echo x`).stdout,
      'x\n',
    )
  t.is((await $({ timeout: undefined, input: undefined })`cat; echo x`).stdout, 'x\n')
})
