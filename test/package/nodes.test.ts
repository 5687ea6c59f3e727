// The package on Node 20, 22 and 24, install scripts off: installed, a repository made with it and tested, and the main commands there, as the
// user who installed it and as another one; for everybody on a machine (-g); and where the Node that it brings is left out.
import { chmodSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { type Ended, start } from '../_process.ts'
import { temporaryFolder } from '../_temporary.ts'
import { type Major, nodeFolder } from './_nodes.ts'
import { serveRegistry } from './_registry.ts'

const root = join(import.meta.dirname, '..', '..')
const folder = temporaryFolder('nodes')
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
const tarball = join(process.env['REKEY_PACKED']!, `rekey-${version}.tgz`)
/** Without the clone's programs: that of an npm script has them. */
const path = (process.env['PATH'] ?? '').split(':').filter(one => !one.includes('node_modules'))
let registry: Awaited<ReturnType<typeof serveRegistry>>

test.before(async t => {
  t.timeout(180_000)
  chmodSync(folder, 0o755)
  registry = await serveRegistry(join(root, 'node_modules'))
})
test.after.always(() => registry?.close())

/** A user on a machine with that Node: what runs a line of a shell in a folder of theirs. */
async function on(major: Major, name: string, { as = '' } = {}) {
  const home = join(folder, `${name}-${major}`)
  mkdirSync(home, { mode: 0o777 })
  chmodSync(home, 0o777)
  const env = {
    PATH: [await nodeFolder(major), ...path].join(':'),
    HOME: home,
    NO_COLOR: '1',
    npm_config_update_notifier: 'false',
    npm_config_registry: registry.url,
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_loglevel: 'error',
    npm_config_ignore_scripts: 'true',
  }
  const shell = (line: string): Promise<Ended> =>
    start('/bin/sh', ['-c', `cd '${home}' && exec ${as} /bin/sh -c "$0"`, line], env)
  return { home, shell }
}

/** Runs a line that must go well, and returns what it said. */
async function well(t: ExecutionContext, shell: (line: string) => Promise<Ended>, line: string): Promise<string> {
  const done = await shell(line)
  t.is(done.code, 0, `${line}\n${done.all}`)
  return done.all
}

const gated = `import { play, playbook, step } from 'rekey'
import { z } from 'zod'

export default playbook({
  name: 'gated',
  summary: 'Needs a file in its second step',
  vars: z.object({ folder: z.string() }),
  plays: [
    play('Both', { hosts: 'all' }, [
      step('First', {
        run: ({ $, vars }) => $\`echo first > \${vars.folder}/first\`,
        rollback: ({ $, vars }) => $\`rm \${vars.folder}/first\`,
      }),
      step('Second', { run: ({ $, vars }) => $\`test -e \${vars.folder}/go\`, rollback: async () => {} }),
    ]),
  ],
})
`

/** What one does with rekey, in a folder that is empty. */
async function useIt(t: ExecutionContext, home: string, shell: (line: string) => Promise<Ended>, rekey: string) {
  const hosts = `[web]\nw1 ansible_connection=local rekey_directory=${home}/on-host\n`
  for (const [name, text] of Object.entries({
    'rekey.yml': 'inventory: hosts\nplaybooks: .\n',
    hosts,
    'gated.ts': gated,
    'one.hcl': `template {\n  contents = "{{ \\"a\\" | toUpper }}"\n  destination = "${home}/one"\n}\n`,
  }))
    writeFileSync(join(home, name), text, { mode: 0o644 })
  // A folder that everybody may write to has no settings.
  chmodSync(home, 0o755)
  t.is(await well(t, shell, `${rekey} --version`), `${version}\n`)
  t.regex(await well(t, shell, `${rekey} inventory --graph`), /w1/)
  t.regex(await well(t, shell, `${rekey} completion words -- run gat`), /^gated$/m)
  const failed = await shell(`${rekey} run gated -e folder=${home}`)
  t.is(failed.code, 2, failed.all)
  t.is(readFileSync(join(home, 'first'), 'utf8'), 'first\n')
  writeFileSync(join(home, 'go'), '')
  await well(t, shell, `${rekey} resume last`)
  await well(t, shell, `${rekey} rollback last`)
  t.deepEqual(globSync('first', { cwd: home }), [])
  await well(t, shell, `${rekey} template -c one.hcl`)
  t.is(readFileSync(join(home, 'one'), 'utf8'), 'A')
}

const isRoot = process.getuid?.() === 0
const nobody = 'setpriv --reuid 65534 --regid 65534 --clear-groups'

for (const major of [20, 22, 24] as const)
  test(`on Node ${major}: installed, and used by who installed it and by another user; what init makes passes its tests`, async t => {
    const { home, shell } = await on(major, 'own')
    await well(t, shell, `npm install '${tarball}'`)
    await useIt(t, home, shell, 'node_modules/.bin/rekey')

    const said = await well(t, shell, 'node_modules/.bin/rekey init made')
    const packing = /^ +\((.*)\)$/m.exec(said)![1]!
    await well(t, shell, packing)
    await well(t, shell, 'cd made && npm install && npm test && npx rekey config')

    if (!isRoot) return
    const other = await on(major, 'other', { as: nobody })
    chmodSync(other.home, 0o777)
    await start('chown', ['65534:65534', other.home], { PATH: process.env['PATH'] })
    await useIt(t, other.home, other.shell, join(home, 'node_modules/.bin/rekey'))
  })

test('for everybody on a machine: npm i -g, with its manual page', async t => {
  const { home, shell } = await on(22, 'global')
  await well(t, shell, `npm install -g --prefix '${home}/usr' '${tarball}'`)
  await useIt(t, home, shell, `${home}/usr/bin/rekey`)
  t.regex(readFileSync(join(home, 'usr/share/man/man1/rekey.1'), 'utf8'), /^\.TH REKEY 1 /)
  // What scripts would have made is said, and how to allow them.
  t.regex(await well(t, shell, `${home}/usr/bin/rekey config`), /ciphers in JavaScript.*npm (approve-scripts|rebuild)/s)
})

test('without the Node that it brings it runs on a machine that is new enough, and says on another what is missing', async t => {
  const old = await on(20, 'bare')
  await well(t, old.shell, `npm install --omit=optional '${tarball}'`)
  const refused = await old.shell('node_modules/.bin/rekey --version')
  t.is(refused.code, 1)
  t.regex(refused.stderr, /needs Node 22\.18 or newer, and this is v20\.[\s\S]*without\s+'--omit=optional'/)
  const { PATH } = { PATH: [await nodeFolder(22), ...path].join(':') }
  const there = await start('/bin/sh', ['-c', `cd '${old.home}' && node_modules/.bin/rekey --version`], {
    PATH,
    HOME: old.home,
  })
  t.is(there.all, `${version}\n`)
})
