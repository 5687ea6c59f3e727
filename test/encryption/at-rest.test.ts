// What an API server encrypts by on a machine whose layout is not read: its file, and whether it has that in force by its own word.
import { createHash } from 'node:crypto'
import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { encryptsBy } from '../../lib/encryption/at-rest.ts'
import type { HostSession } from '../../lib/playbook/model.ts'
import { startApiServer } from '../kubernetes/api/_api-server.ts'
import { localHost } from '../kubernetes/components/_host.ts'
import { base64Key, configuration } from './_configuration.ts'

const plugin = '      - kms:\n          apiVersion: v2\n          name: vault\n          endpoint: unix:///v\n'
const keys = () => `      - aescbc:\n          keys:\n            - name: key1\n              secret: ${base64Key()}\n`

/** A host on which this process passes for its API server, which answers with these texts. */
async function host(
  t: ExecutionContext,
  text: string | undefined,
  answers: Readonly<Record<string, string>> = {},
  onAsked: (file: string) => void = () => {},
) {
  const { session, folder } = await localHost(t)
  const file = join(folder, 'encryption.yaml')
  if (text !== undefined) writeFileSync(file, text)
  const server = await startApiServer()
  t.teardown(server.close)
  server.instead = (request, response) => {
    onAsked(file)
    const answer = answers[request.replace(/^GET /, '')]
    response.writeHead(answer === undefined ? 500 : 200).end(answer ?? '[-]kms-provider-0 failed')
    return true
  }
  const words = [
    ...['kube-apiserver', `--secure-port=${server.port}`],
    ...(text === undefined ? [] : [`--encryption-provider-config=${file}`]),
  ]
  const run = session.$ as (...given: unknown[]) => unknown
  const $ = (options: unknown, ...values: unknown[]) => {
    if (Array.isArray(options)) return run(options, ...values)
    const bound = run(options) as (...given: unknown[]) => unknown
    return (strings: unknown, ...given: unknown[]) => {
      // By its name, and by an expression that finds that.
      if (given.includes('kube-apiserver')) return { stdout: `== ${process.pid}\n${words.join('\n')}\n` }
      const isSought = given.some(one => /\?kube-apiserver$/.test(String(one)))
      return isSought ? { stdout: `/proc/${process.pid}/cmdline\n` } : bound(strings, ...given)
    }
  }
  return { file, asked: () => encryptsBy({ ...session, $ } as unknown as HostSession, { ca: server.ca }) }
}

const inForce = (text: string) =>
  `apiserver_encryption_config_controller_last_config_info{hash="sha256:${createHash('sha256').update(text).digest('hex')}"} 1\n`

test('a server that has its file in force is told with its text, and one that has another one with a word of it', async t => {
  const text = configuration('secrets', keys())
  t.deepEqual(await (await host(t, text, { '/metrics': inForce(text) })).asked(), { text })
  const other = await (await host(t, text, { '/metrics': inForce('before') })).asked()
  t.like(other, { text, amiss: 'has another encryptionconfig in force than its file has now' })
  t.is(await (await host(t, undefined)).asked(), undefined)
})

test('one that does not say what it has in force must have been started since its file was written', async t => {
  const text = configuration('secrets', keys())
  const { file, asked } = await host(t, text, { '/metrics': '' })
  const later = Date.now() / 1_000 + 60
  utimesSync(file, later, later)
  t.regex((await asked())?.amiss ?? '', /^does not say whether it has its file in force/)
  utimesSync(file, 1_000, 1_000)
  t.deepEqual(await asked(), { text })
})

test('one that is not well with its plugins is told so', async t => {
  const text = configuration('secrets', plugin)
  const well = await host(t, text, { '/metrics': inForce(text), '/healthz/kms-providers': 'ok' })
  t.deepEqual(await well.asked(), { text })
  const ill = await host(t, text, { '/metrics': inForce(text) })
  t.regex((await ill.asked())?.amiss ?? '', /^is not well with its KMS plugins: .*kms-provider-0 failed/)
})

test('what is written while a server is asked is not taken for what it has in force', async t => {
  const [text, next] = [configuration('secrets', keys()), configuration('secrets', keys())]
  const { asked } = await host(t, text, { '/metrics': inForce(text) }, file => writeFileSync(file, next))
  t.deepEqual(await asked(), { text })
})
