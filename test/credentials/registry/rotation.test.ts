// The credential of a registry is replaced in Secrets and files and put back, and what speaks against that is found before the first change.
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { Secret } from '../../../lib/connection/shell.ts'
import { registry as pieces } from '../../../lib/credentials/index.ts'
import type { Context } from '../../../lib/credentials/registry/given.ts'
import { credentialsIn } from '../../../lib/credentials/registry/runtime-config.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { base64, before, both, change, configOf, counted, image, putSecret, registry, scene } from './_scene.ts'

const [old, next] = [configOf('robot', 'first-one'), configOf('robot-2', 'second-one')]

test('every Secret and every file of a node gets the new one in its place, and the old one back', async t => {
  const { server, ctx, folder, asked, run, text } = await scene(t)
  putSecret(server, 'shop/pull', old, { metadata: { uid: 'mine', labels: { app: 'web' } } })
  putSecret(server, 'blog/pull', old)
  putSecret(server, 'blog/other', configOf('somebody', 'first-one'))
  const older = { [registry]: { username: 'robot', password: 'first-one' } }
  const data = { '.dockercfg': base64(JSON.stringify(older)) }
  putSecret(server, 'blog/older', '', { type: 'kubernetes.io/dockercfg', data })
  server.put('/api/v1/namespaces/shop/serviceaccounts', {
    metadata: { name: 'default' },
    imagePullSecrets: [{ name: 'pull' }],
  })
  server.put('/api/v1/namespaces/ci/secrets', {
    metadata: { name: 'kaniko' },
    type: 'Opaque',
    data: { 'config.json': base64(old) },
  })
  const file = join(folder, 'kubelet/config.json')
  writeFileSync(file, old)
  chmodSync(file, 0o640)
  await run(...before, ...both)
  t.deepEqual(asked, ['', 'robot:first-one', 'robot-2:second-one'])
  const plan = ctx.registered<{ accounts: string[]; others: string[]; images: string[] }>('find-what-holds-it')!
  t.like(plan, { accounts: ['shop/default'], others: ['ci/kaniko'], images: [image] })
  t.deepEqual([text('shop', 'pull'), readFileSync(file, 'utf8')], [old, old], 'nothing is changed yet')
  await t.throwsAsync(run(counted), { code: 'registry.left-behind' })

  await run(...change, counted)
  t.is(text('shop', 'pull'), next)
  t.is(text('blog', 'pull'), next)
  t.is(text('blog', 'older'), JSON.stringify({ [registry]: { username: 'robot-2', password: 'second-one' } }))
  t.is(text('blog', 'other'), configOf('somebody', 'first-one'))
  t.like(server.get('/api/v1/namespaces/shop/secrets/pull')!.metadata, { uid: 'mine', labels: { app: 'web' } })
  t.is(readFileSync(file, 'utf8'), next)
  t.is(statSync(file).mode & 0o777, 0o640)
  const version = server.get('/api/v1/namespaces/shop/secrets/pull')!.metadata.resourceVersion
  await run(...change)
  t.is(server.get('/api/v1/namespaces/shop/secrets/pull')!.metadata.resourceVersion, version, 'done is done')

  for (let twice = 0; twice < 2; twice++) {
    await pieces.putIntoFiles.rollback!(ctx)
    await pieces.putIntoSecrets.rollback!(ctx)
    t.deepEqual([text('shop', 'pull'), text('blog', 'pull'), readFileSync(file, 'utf8')], [old, old, old])
    t.is(text('blog', 'older'), JSON.stringify(older))
  }
})

test('a Secret that somebody else writes at the same moment gets the credential in what it holds then', async t => {
  const { server, ctx, run, text } = await scene(t)
  putSecret(server, 'shop/pull', old)
  await run(...before, ...both)
  const also = JSON.stringify({ auths: { ...JSON.parse(old).auths, 'third.example.com': { auth: 'eA==' } } })
  let once = true
  server.instead = asked => {
    if (once && asked.startsWith('PATCH')) putSecret(server, 'shop/pull', also)
    once &&= !asked.startsWith('PATCH')
    return false
  }
  await run(pieces.putIntoSecrets)
  t.deepEqual(Object.keys(JSON.parse(text('shop', 'pull')).auths), ['other.example.com', registry, 'third.example.com'])
  t.is(JSON.parse(text('shop', 'pull')).auths[registry].auth, base64('robot-2:second-one'))
  await pieces.putIntoSecrets.rollback!(ctx)
  t.is(text('shop', 'pull'), also, 'their change stays')
})

test('a run that is killed in the middle of the Secrets is gone on with, and undone', async t => {
  const { server, ctx, run, text } = await scene(t)
  for (let index = 0; index < 20; index++) putSecret(server, `n${index}/pull`, old)
  await run(...before, ...both)
  let patches = 0
  server.instead = (asked, response) => {
    if (!asked.startsWith('PATCH') || ++patches <= 7) return false
    response.writeHead(500).end('{"message":"no more"}')
    return true
  }
  await t.throwsAsync(run(pieces.putIntoSecrets), { message: /no more/ })
  server.instead = () => false
  const texts = () => Array.from({ length: 20 }, (_, index) => text(`n${index}`, 'pull'))
  t.is(texts().filter(one => one === next).length, 7)
  await pieces.putIntoSecrets.rollback!(ctx)
  t.true(texts().every(one => one === old))
  await run(pieces.putIntoSecrets, counted)
  t.true(texts().every(one => one === next))
})

test('the way back is refused once the registry takes the old one no more', async t => {
  const { server, ctx, folder, lets, run, text } = await scene(t)
  putSecret(server, 'shop/pull', old)
  const file = join(folder, 'kubelet/config.json')
  writeFileSync(file, old)
  await run(...before, ...both, ...change)
  lets.delete('robot:first-one')
  await t.throwsAsync(async () => pieces.putIntoFiles.rollback!(ctx), { code: 'registry.old-revoked' })
  await t.throwsAsync(async () => pieces.putIntoSecrets.rollback!(ctx), { code: 'registry.old-revoked' })
  t.deepEqual([text('shop', 'pull'), readFileSync(file, 'utf8')], [next, next])
})

/** The step that looks at the node finds a runtime with a credential of its own, and no other file. */
const ownFile = (path: string): StepDefinition<Context> => ({
  id: 'look-at-the-node',
  run: ctx => {
    const owner = execFileSync('stat', ['-c', '%U:%G', path], { encoding: 'utf8' }).trim()
    const text = new Secret(readFileSync(path, 'utf8'), ['first-one'])
    const file = { path, real: path, mode: 0o600, owner, kind: 'runtime', text }
    return { ...ctx.registered<object>('look-at-the-node'), files: [file], hasOwn: true }
  },
})

test('a runtime with a credential of its own must pull by that, and gets the new one again where the old one pulls nothing', async t => {
  const taken = new Set(['robot:first-one', 'robot-2:second-one'])
  let file = ''
  // Whatever it is brought, it asks by what its own file has.
  const ask = () => {
    const [own] = credentialsIn({ path: file, text: readFileSync(file, 'utf8') }, registry)
    return taken.has(`${own?.user}:${own?.password}`) ? '' : '401 Unauthorized'
  }
  const { server, ctx, folder, run } = await scene(t, {}, false, ask)
  putSecret(server, 'shop/pull', old)
  mkdirSync(join(folder, registry))
  file = join(folder, registry, 'hosts.toml')
  const textWith = (user: string, password: string) =>
    `[header]\nAuthorization = "Basic ${base64(`${user}:${password}`)}"\n`
  writeFileSync(file, textWith('robot', 'first-one'))
  await run(...before, ownFile(file), ...both)
  taken.delete('robot-2:second-one')
  await t.throwsAsync(run(pieces.putIntoFiles), { code: 'registry.pull' })
  taken.add('robot-2:second-one')
  await run(pieces.putIntoFiles)
  t.is(readFileSync(file, 'utf8'), textWith('robot-2', 'second-one'))
  taken.delete('robot:first-one')
  await t.throwsAsync(async () => pieces.putIntoFiles.rollback!(ctx), { code: 'registry.old-revoked' })
  t.is(readFileSync(file, 'utf8'), textWith('robot-2', 'second-one'))
  taken.add('robot:first-one')
  await pieces.putIntoFiles.rollback!(ctx)
  t.is(readFileSync(file, 'utf8'), textWith('robot', 'first-one'))
})

test('kubelets are given the time that they go by what they have read, and none where no file was changed', async t => {
  const { server, ctx, folder, run } = await scene(t)
  putSecret(server, 'shop/pull', old)
  Object.assign(ctx.vars, { kubelet_cache: 600_000 })
  const [from, longest] = [Date.now(), ctx.vars.kubelet_cache]
  await run(...before, ...both, ...change, pieces.forgotten)
  t.true(Date.now() - from < longest)
  writeFileSync(join(folder, 'kubelet/config.json'), old)
  Object.assign(ctx.vars, { kubelet_cache: 2_000 })
  await run(...before, pieces.putIntoFiles)
  const { at } = ctx.registered<{ at: Date }>('put-it-into-files')!
  await run(pieces.forgotten)
  t.true(Date.now() - at.getTime() >= 2_000)
})

/** What the report says is to be done next. */
const toldNext = (ctx: Context): string =>
  pieces
    .report({ ...ctx, mode: 'run', outcome: 'done' } as never)[0]!
    .rows.find(([name]) => name === 'next')!
    .at(-1)!

const quiet: StepDefinition<Context> = { id: 'nobody-asks-as-the-old-user', run: () => ({ quiet: 1 }) }

test('the report lets the old one be revoked where nobody asks by it, and nothing was left out', async t => {
  const { server, ctx, run } = await scene(t)
  putSecret(server, 'shop/pull', old)
  await run(...before, ...both, ...change, counted)
  t.regex(toldNext(ctx), /^see in the registry’s log \(registry_log\) .*, then revoke it$/)
  await run(quiet)
  t.is(toldNext(ctx), 'the old credential of robot may be revoked')
})

const leftOut: Record<string, (s: Awaited<ReturnType<typeof scene>>) => void> = {
  'a Secret that was accepted as it is': ({ server }) => putSecret(server, 'blog/pull', old),
  'a Secret of another type': ({ server }) =>
    putSecret(server, 'ci/kaniko', '', { type: 'Opaque', data: { 'config.json': base64(old) } }),
  'a node that was accepted': ({ server }) => void server.put('/api/v1/nodes', { metadata: { name: 'n9' } }),
}
for (const [title, set] of Object.entries(leftOut))
  test(`the report does not let the old one be revoked beside ${title}`, async t => {
    const one = await scene(t, { accept: ['secret/blog/pull', 'node/n9'] })
    putSecret(one.server, 'shop/pull', old)
    set(one)
    await one.run(...before, ...both, ...change, counted, quiet)
    t.is(toldNext(one.ctx), 'change what is left, then revoke the old credential of robot')
  })

test('a Secret that something else would write back stops the run by name, and is watched where that is accepted', async t => {
  const { server, ctx, run, text } = await scene(t)
  const marks = { metadata: { annotations: { 'argocd.argoproj.io/tracking-id': 'x' } } }
  putSecret(server, 'shop/pull', old, marks)
  await t.throwsAsync(run(...before), { code: 'registry.owned', message: /shop\/pull \(Argo CD\)/ })
  t.is(text('shop', 'pull'), old)
  Object.assign(ctx.vars, { accept: ['owner/shop/*'] })
  await run(...before, ...both, ...change, counted)
  putSecret(server, 'shop/pull', old, marks)
  await t.throwsAsync(run(counted), { code: 'registry.left-behind', message: /Argo CD/ })
})

const refusals: Record<string, { code: string; set?: (s: Awaited<ReturnType<typeof scene>>) => void; vars?: object }> =
  {
    'an immutable Secret': {
      code: 'registry.immutable',
      set: ({ server }) => putSecret(server, 'shop/fixed', old, { immutable: true }),
    },
    'a Secret that logs in by a token': {
      code: 'registry.token',
      set: ({ server }) => {
        const text = JSON.parse(old)
        text.auths[registry].identitytoken = 'x'
        putSecret(server, 'shop/token', JSON.stringify(text))
      },
    },
    'a new credential that the registry does not take': {
      code: 'registry.refused',
      set: ({ lets }) => void lets.delete('robot-2:second-one'),
    },
    'an old one that it does not take any more': {
      code: 'registry.old-refused',
      set: ({ lets }) => void lets.delete('robot:first-one'),
    },
    'a registry that lets anybody pull': { code: 'registry.open', set: ({ lets }) => void lets.add('') },
    'a node that is not in the run': {
      code: 'registry.unknown-nodes',
      set: ({ server }) => void server.put('/api/v1/nodes', { metadata: { name: 'n9' } }),
    },
    'a user that nobody has': { code: 'registry.nothing-to-do', vars: { registry_user: 'robot-2' } },
    'an image of another registry': { code: 'registry.image', vars: { registry_images: ['nginx'] } },
    'a file that others may read': {
      code: 'registry.new-credential',
      set: ({ folder }) => chmodSync(join(folder, 'new-credential'), 0o644),
    },
    'a file without a colon': {
      code: 'registry.new-credential',
      set: ({ folder }) => writeFileSync(join(folder, 'new-credential'), 'second-one\n'),
    },
    'two places for the new one': { code: 'registry.new-credential', vars: { registry_new_vault: 'kv/registry' } },
    'no image to pull': {
      code: 'registry.no-image',
      set: ({ server }) => server.remove('/api/v1/namespaces/shop/pods/web'),
    },
    'a runtime that does not answer': {
      code: 'registry.no-runtime',
      set: ({ ctx }) =>
        Object.assign(
          ctx.registered<{ layout: { components: { kubelet: { flags: object } } } }>('read-the-certificates')!.layout
            .components.kubelet.flags,
          {
            'container-runtime-endpoint': ['unix:///nowhere/runtime.sock'],
          },
        ),
    },
  }
for (const [title, { code, set, vars }] of Object.entries(refusals))
  test(`${title} is found before anything is changed`, async t => {
    const one = await scene(t, vars)
    putSecret(one.server, 'shop/pull', old)
    set?.(one)
    await t.throwsAsync(one.run(...before, ...both), { code })
    t.is(one.text('shop', 'pull'), old)
    t.false(one.server.asked.some(asked => asked.startsWith('PATCH')))
  })

test('an old one that was revoked already is accepted by name; then it is not put back', async t => {
  const { server, ctx, lets, run, text } = await scene(t, { accept: ['old/refused'] })
  putSecret(server, 'shop/pull', old)
  lets.delete('robot:first-one')
  await run(...before, ...both, ...change, counted)
  t.is(text('shop', 'pull'), next)
  await t.throwsAsync(async () => pieces.putIntoSecrets.rollback!(ctx), { code: 'registry.old-revoked' })
  t.is(text('shop', 'pull'), next)
})

test('a host that is no node has nobody to pull, and its files are changed all the same', async t => {
  const { server, ctx, folder, asked, run } = await scene(t)
  putSecret(server, 'shop/pull', old)
  Object.assign(ctx.registered<object>('read-the-certificates')!, { nodeName: undefined })
  server.remove('/api/v1/nodes/m1')
  writeFileSync(join(folder, 'kubelet/config.json'), old)
  await run(...before, pieces.without, pieces.proven('before'), pieces.putIntoFiles)
  t.deepEqual(asked, [])
  t.is(readFileSync(join(folder, 'kubelet/config.json'), 'utf8'), next)
  await t.throwsAsync(run(pieces.old), { code: 'registry.no-node' })
})

test('a check brings no image to a node, and says what would be changed', async t => {
  const { server, ctx, asked, said, run } = await scene(t, {}, true)
  putSecret(server, 'shop/pull', old)
  await run(...before, ...both)
  t.deepEqual(asked, [])
  t.true(said.some(line => line.includes('not tried')))
  t.deepEqual(await pieces.putIntoSecrets.plan!(ctx), ['put the credential of robot-2 into Secret shop/pull'])
})

test('the registry’s log must name the new user, and the old one no more', async t => {
  const { server, ctx, folder, run } = await scene(t)
  const log = join(folder, 'registry.log')
  Object.assign(ctx.vars, { registry_log: log, registry_log_host: 'm1' })
  writeFileSync(log, 'auth.user.name=robot\n')
  putSecret(server, 'shop/pull', old)
  await run(...before, ...both, ...change)
  const add = (line: string) => writeFileSync(log, `${line}\n`, { flag: 'a' })
  add('auth.user.name=robot-22')
  await t.throwsAsync(run(pieces.quiet), { code: 'registry.log-silent' })
  add('GET /v2/ auth.user.name=robot-2 http.request')
  await run(pieces.quiet)
  const asks = setInterval(() => add('auth.user.name="robot" http.request.remoteaddr=10.0.0.9'), 20)
  await t
    .throwsAsync(run(pieces.quiet), { code: 'registry.old-used', message: /10\.0\.0\.9/ })
    .finally(() => clearInterval(asks))
})

test('a file that somebody changed since it was looked at is not written over, nor put back over', async t => {
  const { server, ctx, folder, run } = await scene(t)
  putSecret(server, 'shop/pull', old)
  const file = join(folder, 'kubelet/config.json')
  writeFileSync(file, old)
  await run(...before, ...both)
  writeFileSync(file, `${old}\n`)
  await t.throwsAsync(run(pieces.putIntoFiles), { code: 'registry.changed-meanwhile' })
  writeFileSync(file, old)
  await run(pieces.putIntoFiles)
  writeFileSync(file, `${next}\n`)
  await pieces.putIntoFiles.rollback!(ctx as Context)
  t.is(readFileSync(file, 'utf8'), `${next}\n`)
  t.false(existsSync(join(folder, 'kubelet/.rekey')))
})

test('a file of a node that has got the old credential back is found at the end', async t => {
  const { server, ctx, folder, run } = await scene(t)
  putSecret(server, 'shop/pull', old)
  const file = join(folder, 'kubelet/config.json')
  writeFileSync(file, old)
  await run(...before, ...both, ...change)
  const again = pieces.noneHasIt(() => ctx.registered('read-the-certificates')!)
  await run(again)
  writeFileSync(file, old)
  await t.throwsAsync(run(again), { code: 'registry.written-back', message: /kubelet\/config\.json/ })
})
