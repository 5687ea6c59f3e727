// The package as somebody has it who installs it: what `npm pack` makes, installed into an empty folder from a registry on loopback, by npm with
// install scripts off; and playbooks of one's own in a repository of one's own.
import {
  chmodSync,
  chownSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { crc32 } from 'node:zlib'
import test from 'ava'
import { type Ended, start } from '../_process.ts'
import { temporaryFolder } from '../_temporary.ts'
import { startSshd } from '../ssh/sshd.ts'
import { serveRegistry } from './_registry.ts'

const root = join(import.meta.dirname, '..', '..')
const folder = temporaryFolder('package')
const home = join(folder, 'repository')
const installed = join(home, 'node_modules', 'rekey')
/** Without the clone's programs: that of an npm script has them. */
const path = (process.env['PATH'] ?? '').split(':').filter(one => !one.includes('node_modules'))
const env = { PATH: path.join(':'), HOME: folder, NO_COLOR: '1', npm_config_update_notifier: 'false' }

/** Runs a line of a shell in the repository. */
const shell = (line: string): Promise<Ended> => start('/bin/sh', ['-c', `cd '${home}' && ${line}`], env)
const rekey = (line: string) => shell(`node_modules/.bin/rekey ${line}`)

const own = `import { play, playbook, quote, step } from 'rekey'
import { z } from 'zod'
import { $ as here } from 'zx'

interface Greeting { readonly name: string }

export default playbook({
  name: 'greet',
  summary: 'Greets',
  vars: z.object({ greeting: z.string().default('hello') }),
  plays: [
    play('Greet', { hosts: 'all' }, [
      step('Say it', {
        run: async ({ $, vars, host }) => {
          const { name }: Greeting = host
          await $\`echo \${vars.greeting} \${name} > \${host.vars['folder']}/said; sleep 0.1\`
          return (await here\`echo \${quote('a')}\`).stdout
        },
        rollback: ({ $, host }) => $\`rm \${host.vars['folder']}/said\`,
      }),
    ]),
  ],
})
`

let packed: readonly string[] = []

test.before(async t => {
  t.timeout(180_000)
  const [tarball = ''] = globSync(join(process.env['REKEY_PACKED']!, 'rekey-*.tgz'))
  const listed = await start('tar', ['--list', '--file', tarball], env)
  packed = listed.stdout
    .trim()
    .split('\n')
    .map(file => file.replace(/^package\//, ''))
  const registry = await serveRegistry(join(root, 'node_modules'))
  mkdirSync(home)
  const words = `--ignore-scripts --no-audit --no-fund --loglevel=error --registry=${registry.url}`
  const done = await shell(`npm install ${words} '${tarball}'`)
  registry.close()
  t.is(done.code, 0, done.all)
  mkdirSync(join(home, 'inventory'))
  writeFileSync(
    join(home, 'inventory', 'hosts'),
    `[masters]\nw1 ansible_connection=local folder=${folder} rekey_directory=${folder}/on-host\n`,
  )
  // Tests go on beside each other, and a host has one lock.
  writeFileSync(
    join(home, 'inventory', 'other'),
    `w2 ansible_connection=local rekey_directory=${folder}/on-the-other\n`,
  )
  writeFileSync(join(home, 'greet.ts'), own)
})

test('it has what rekey runs on and is read by, and nothing of its tests', t => {
  const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string | Record<string, string>>
  }
  const doors = Object.values(exports).flatMap(door => (typeof door === 'string' ? door : Object.values(door)))
  const wanted = [
    ...doors.map(file => file.replace(/^\.\//, '')),
    ...globSync('{playbooks,templates,lib}/**/*.{ts,tpl,sh,yaml,go}', { cwd: root }),
    ...globSync('playbooks/*.ts', { cwd: root }).map(file => `dist/${file.replace(/ts$/, 'js')}`),
    ...['bin/rekey', 'LICENSE', 'README.md', 'CHANGELOG.md', 'scripts/build-native.js', 'dist/commit'],
    ...['dist/licences.txt', 'dist/man/rekey.1'],
  ]
  t.deepEqual(
    wanted.filter(file => !packed.includes(file)),
    [],
  )
  t.deepEqual(
    packed.filter(
      file =>
        !/^(bin|dist|lib|playbooks|templates)\/|^(LICENSE|(README|CHANGELOG)\.md|package\.json|scripts\/build-native\.js)$/.test(
          file,
        ),
    ),
    [],
  )
  // A door hands on what is in the bundle, and nothing is in it that has a source.
  const handsOn = new Set(['dist/lib/playbook/zod/index.js', ...doors.map(file => file.replace(/^\.\//, ''))])
  t.deepEqual(
    packed.filter(file => /^dist\/.*\.c?js$/.test(file) && !handsOn.has(file) && !packed.includes(`${file}.map`)),
    [],
  )
})

test('its commands start, from a folder with nothing else in it', async t => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  t.is((await shell('npx rekey --version')).all, `${version}\n`)
  t.regex((await rekey('--help')).stdout, /^Usage: rekey /)
  t.regex((await rekey('playbooks')).stdout, /^rotate-ca\n/m)
  t.regex((await rekey('inventory -i inventory/hosts --list')).stdout, /"w1"/)
  t.regex((await rekey('completion words -- run rotate-ca -i inventory/hosts -l w')).stdout, /^w1$/m)
  t.regex((await rekey('run rotate-ca -i inventory/hosts --list-steps')).stdout, /Read the clock/)
  writeFileSync(
    join(home, 'one.hcl'),
    `template {\n  contents = "{{ \\"a\\" | toUpper }}"\n  destination = "${folder}/one"\n}\n`,
  )
  t.is((await rekey('template -i inventory/other -c one.hcl')).code, 0)
  t.is(readFileSync(join(folder, 'one'), 'utf8'), 'A')
})

test("a playbook of one's own runs, is undone, and its run tells which rekey it was", async t => {
  const ran = await rekey('run greet.ts -i inventory/hosts -e greeting=ahoy')
  t.is(ran.code, 0, ran.all)
  t.is(readFileSync(join(folder, 'said'), 'utf8'), 'ahoy w1\n')
  const run = /^Run (\S+)/m.exec(ran.stdout)![1]
  const { commit } = JSON.parse(
    readFileSync(join(folder, '.local/state/rekey/runs', run!, 'events.jsonl'), 'utf8').split('\n')[0]!,
  ) as { commit: string }
  t.is(commit, readFileSync(join(installed, 'dist', 'commit'), 'utf8').trim())
  const undone = await rekey(`rollback ${run}`)
  t.is(undone.code, 0, undone.all)
  t.deepEqual(globSync('said', { cwd: folder }), [])
})

test('what is compiled is kept, learns what a command comes to use, and is believed only where it is whole and ours', async t => {
  const cache = join(folder, 'a-cache')
  const rekeyHere = (line: string) => shell(`XDG_CACHE_HOME=${cache} node_modules/.bin/rekey ${line}`)
  const kept = (use: string) => join(cache, globSync(`rekey/compiled/*/${use}-*`, { cwd: cache })[0]!)
  t.is((await rekeyHere('--version')).code, 0)
  const file = kept('words')
  const whole = readFileSync(file)
  const isWhole = (content: Buffer) => content.length > 8 && crc32(content.subarray(4)) === content.readUInt32LE(0)
  t.true(isWhole(whole))
  for (const [what, content] of [
    ['none of it', Buffer.alloc(0)],
    ['cut short', whole.subarray(0, whole.length / 2)],
    ['another byte', Buffer.concat([whole.subarray(0, -1), Buffer.of(whole.at(-1)! ^ 1)])],
  ] as const) {
    writeFileSync(file, content)
    t.is((await rekeyHere('--version')).code, 0, what)
    t.true(isWhole(readFileSync(file)), what)
  }
  chmodSync(file, 0o666)
  t.is((await rekeyHere('--version')).code, 0)
  t.is(statSync(file).mode & 0o777, 0o600)
  await rekeyHere('run --help')
  const { size } = statSync(kept('run'))
  // V8 forgets what it has compiled and not used for a while: on a busy machine that is some of it, and the next time shows it.
  for (let times = 0; times < 5 && statSync(kept('run')).size <= size; times++)
    t.is((await rekeyHere('run greet.ts -i inventory/hosts --list-steps')).code, 0)
  t.true(statSync(kept('run')).size > size)
})

test('what nobody has written for a month goes when something is kept', async t => {
  const cache = join(folder, 'an-old-cache')
  const older = join(cache, 'rekey', 'compiled', 'v22.18.0-x64-0')
  mkdirSync(older, { recursive: true })
  chmodSync(dirname(older), 0o700)
  for (const [name, days] of [
    ['run-1', 31],
    ['run-2', 29],
  ] as const) {
    writeFileSync(join(older, name), '')
    utimesSync(join(older, name), new Date(), Date.now() / 1000 - days * 86_400)
  }
  t.is((await shell(`XDG_CACHE_HOME=${cache} node_modules/.bin/rekey --version`)).code, 0)
  t.deepEqual(readdirSync(older), ['run-2'])
})

test('nothing is serialized where it can not be written', async t => {
  const cache = join(folder, 'a-full-cache')
  // Root may write anywhere, so a preload says that it may not.
  const preload = join(folder, 'preload.cjs')
  writeFileSync(
    preload,
    `const fs = require('fs'), { Script } = require('vm'), { openSync } = fs
fs.openSync = (file, ...more) => { if (more[0] === 'wx') throw Object.assign(new Error('EACCES'), { code: 'EACCES' }); return openSync(file, ...more) }
Script.prototype.createCachedData = () => { fs.writeSync(1, 'made for nothing'); return Buffer.alloc(0) }`,
  )
  const { stdout, code } = await shell(
    `XDG_CACHE_HOME=${cache} NODE_OPTIONS=--require=${preload} node_modules/.bin/rekey --version`,
  )
  t.is(code, 0)
  t.notRegex(stdout, /made for nothing/)
})

test('code that somebody else could write is not run, nor is that of the current folder', async t => {
  const cache = join(folder, 'an-open-cache')
  const run = (variables: string, cwd = home) =>
    shell(`cd '${cwd}' && ${variables} '${join(home, 'node_modules/.bin/rekey')}' --version`)
  t.is((await run(`XDG_CACHE_HOME=${cache}`)).code, 0)
  const compiled = join(cache, 'rekey', 'compiled')
  const [version] = readdirSync(compiled)
  writeFileSync(join(compiled, version!, 'planted'), '')
  chmodSync(compiled, 0o777)
  t.is((await run(`XDG_CACHE_HOME=${cache}`)).code, 0)
  t.false(existsSync(join(compiled, version!, 'planted')))
  const clone = join(folder, 'a-clone')
  mkdirSync(clone)
  for (const variables of ['HOME=', 'XDG_CACHE_HOME=.cache']) t.is((await run(variables, clone)).code, 0)
  t.deepEqual(readdirSync(clone), [])
})

test('what rekey init makes passes its own tests and its own tsc', async t => {
  const made = await rekey('init made')
  t.is(made.code, 0, made.all)
  // Never by its name alone: the registry has another package under that.
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  const { devDependencies } = JSON.parse(readFileSync(join(home, 'made/package.json'), 'utf8')) as {
    devDependencies: Record<string, string>
  }
  t.is(devDependencies['rekey'], `file:rekey-${version}.tgz`)
  t.regex(
    made.stdout,
    /Next:\n +\(cd \S+\/node_modules\/rekey && npm pack --ignore-scripts --pack-destination \S+\/made\)\n/,
  )
  // Its types of Node are those that `npm install` would bring.
  symlinkSync(join(root, 'node_modules/@types'), join(home, 'node_modules/@types'))
  const tested = await shell('cd made && npm test')
  t.is(tested.code, 0, tested.all)
  t.regex(tested.stdout, /pass 1\n/)
  t.is((await shell(`cd made && ${join(root, 'node_modules/.bin/tsc')}`)).all, '')
  t.regex(readFileSync(join(home, 'made/.gitignore'), 'utf8'), /^node_modules/)
  t.regex((await rekey('inventory -i made/inventory/staging --list')).stdout, /"web2"/)
  t.regex((await rekey('init made')).stderr, /made is not empty: .*\n.*Name a folder that is not there yet/)
})

test("it reaches hosts over SSH, by itself and by the system's ssh", async t => {
  const sshd = await startSshd()
  t.teardown(() => sshd.stop())
  const { port, user, privateKeyFile, knownHostsFiles } = sshd.settings
  for (const kind of ['ssh', 'openssh']) {
    const there = join(folder, kind)
    mkdirSync(there)
    const settings = {
      ...{ ansible_connection: kind, ansible_host: '127.0.0.1', ansible_port: port, ansible_user: user },
      ansible_ssh_private_key_file: privateKeyFile,
      ansible_ssh_common_args: `-o UserKnownHostsFile=${knownHostsFiles?.[0]} -o StrictHostKeyChecking=yes`,
      ...{ folder: there, rekey_directory: join(there, 'on-host') },
    }
    writeFileSync(join(there, 'hosts.json'), JSON.stringify({ all: { hosts: { w1: settings } } }))
    const { code, all } = await rekey(`run greet.ts -i ${there}/hosts.json`)
    t.is(code, 0, all)
    t.is(readFileSync(join(there, 'said'), 'utf8'), 'hello w1\n')
  }
})

const asRoot = process.getuid?.() === 0 ? test : test.skip
asRoot('another user than the one that installed it runs a playbook, too', async t => {
  const theirs = temporaryFolder('nobody')
  chmodSync(folder, 0o755)
  chownSync(theirs, 65_534, 65_534)
  const inventory = join(theirs, 'hosts')
  writeFileSync(inventory, `[masters]\nw1 ansible_connection=local folder=${theirs}\n`)
  const nobody = 'setpriv --reuid 65534 --regid 65534 --clear-groups'
  const { code, all } = await shell(`HOME=${theirs} ${nobody} node_modules/.bin/rekey run greet.ts -i ${inventory}`)
  t.is(code, 0, all)
  t.is(readFileSync(join(theirs, 'said'), 'utf8'), 'hello w1\n')
})

test('a mistake in it is one error with its line', async t => {
  writeFileSync(join(home, 'wrong.ts'), own.replace(/ {2}vars: z.*\n/, ''))
  const { code, stderr } = await rekey('run wrong.ts -i inventory/hosts')
  t.is(code, 1)
  t.is(stderr.split('\n')[0], `Error: ${join(home, 'wrong.ts')}:7: vars is missing`)
})

test('its types are there for what it exports', async t => {
  const typed = join(home, 'typed')
  mkdirSync(typed)
  const compilerOptions = {
    customConditions: [],
    incremental: false,
    tsBuildInfoFile: null,
    typeRoots: [join(root, 'node_modules/@types')],
  }
  const config = { extends: join(root, 'tsconfig.json'), compilerOptions, include: ['*.ts'] }
  writeFileSync(join(typed, 'tsconfig.json'), JSON.stringify(config))
  writeFileSync(join(typed, 'package.json'), '{ "type": "module" }')
  writeFileSync(join(typed, 'right.ts'), own)
  writeFileSync(join(typed, 'wrong.ts'), own.replace('host }) => {', 'hst }) => {'))
  const { all } = await shell(`${join(root, 'node_modules/.bin/tsc')} -p typed`)
  t.regex(all, /^typed\/wrong\.ts\(.*Property 'hst' does not exist/)
})
