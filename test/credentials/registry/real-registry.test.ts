// The same against a real registry (Debian's docker-registry, users in a htpasswd file): what it answers to the old, the new and no credential, what its log
// says of who asked, and that a user who was taken out is refused. The node's runtime is a stand-in that asks it.
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, openSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { registry as pieces } from '../../../lib/credentials/index.ts'
import { eventually } from '../../_eventually.ts'
import { before, both, change, configOf, counted, putSecret, scene } from './_scene.ts'

const isThere = spawnSync('docker-registry', ['--version']).status === 0

/** `first-one` and `second-one`, as `htpasswd -B` has them. */
const users = {
  robot: '$2b$04$IOEPM3e/ZOvE4lFRDZsUKe4JkTYNd2x6Mina4FRI.CBWHchv2WNi.',
  'robot-2': '$2b$04$0xhaQKnLXf/LIovsisl4GuhrzX4KlmFr42czVfV91ukBtlfap8D.K',
}

const freePort = () =>
  new Promise<number>(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

;(isThere ? test : test.skip)(
  'a real registry: both hold, the log tells them apart, and the old one is revoked',
  async t => {
    const port = await freePort()
    /** What a runtime says of an answer; it asks as it was told to. */
    const ask = (who: string) => {
      const input = who === '' ? '' : `user = "${who}"\n`
      const asked = spawnSync(
        'curl',
        ['-sK', '-', '-o', '/dev/null', '-w', '%{http_code}', `http://127.0.0.1:${port}/v2/_catalog`],
        { input },
      )
      const status = asked.stdout.toString()
      return status === '200' ? '' : `failed to resolve reference: unexpected status: ${status}`
    }
    const { server, ctx, folder, run, text } = await scene(t, {}, false, ask)
    const own = join(folder, 'registry')
    mkdirSync(own)
    const letIn = (...names: (keyof typeof users)[]) =>
      writeFileSync(join(own, 'htpasswd'), names.map(name => `${name}:${users[name]}\n`).join(''))
    letIn('robot', 'robot-2')
    writeFileSync(
      join(own, 'config.yml'),
      `version: 0.1
log: { level: debug }
storage: { filesystem: { rootdirectory: ${own}/data } }
http: { addr: 127.0.0.1:${port} }
auth: { htpasswd: { realm: test, path: ${own}/htpasswd } }
`,
    )
    const log = openSync(join(own, 'log'), 'a')
    const running = spawn('docker-registry', ['serve', join(own, 'config.yml')], { stdio: ['ignore', log, log] })
    t.teardown(() => void running.kill())
    await eventually(() => ask('robot:first-one') === '', 'a registry that answers')

    Object.assign(ctx.vars, { registry_log: join(own, 'log'), registry_log_host: 'm1' })
    const [old, next] = [configOf('robot', 'first-one'), configOf('robot-2', 'second-one')]
    putSecret(server, 'shop/pull', old)
    await run(...before, ...both, ...change, counted, pieces.quiet)
    t.is(text('shop', 'pull'), next)
    const asks = setInterval(() => ask('robot:first-one'), 50)
    await t
      .throwsAsync(run(pieces.quiet), { code: 'registry.old-used', message: /still asked as robot: .*robot/ })
      .finally(() => clearInterval(asks))
    letIn('robot-2')
    await eventually(() => ask('robot:first-one').endsWith(' 401'), 'a refusal')
    await t.throwsAsync(async () => pieces.putIntoSecrets.rollback!(ctx), { code: 'registry.old-revoked' })
    await run(pieces.proven('after'))
    t.is(text('shop', 'pull'), next)
  },
)
