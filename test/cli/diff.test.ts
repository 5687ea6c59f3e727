// `--diff` and `--check` on a real sshd: what is shown of files, and that a check leaves every file as it was.
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { issue } from '../pki/certificates/_certificates.ts'
import { testsOnSshd, type Workbench, workbench } from './_rekey.ts'

const { real } = testsOnSshd('diffs are', ['h1'])
/** Where no secret is looked for: a process that was told one before would know it. */
const served = { served: true }

/** Steps that write in every way that there is: planned, staged and swapped, as a secret, in an archive. */
const writing = (etc: string) => `
import { backUpFiles, play, playbook, secret, stageFiles, step, swapFiles, wouldWrite } from API
import { z } from ZOD
const path = name => '${etc}/' + name
export default playbook({
  name: 'writes', summary: 'Writes files', vars: z.object({ key: z.string(), certificate: z.string() }),
  plays: [play('Write', { hosts: 'masters' }, [
    step('Look', { readOnly: true, run: async ({ files }) => (await files.readText(path('plain.conf'))).length }),
    step('Back up', { run: ctx => backUpFiles(ctx, path('backup/host.tgz'), [path('plain.conf')]) }),
    step('Write the settings', {
      plan: () => wouldWrite(path('plain.conf'), 'a = 1\\nb = 3\\n'),
      run: ({ files }) => files.write(path('plain.conf'), 'a = 1\\nb = 3\\n'),
    }),
    step('Write what is there', {
      plan: () => wouldWrite(path('same.conf'), 'same\\n'),
      run: ({ files }) => files.write(path('same.conf'), 'same\\n'),
    }),
    step('Write a password', {
      plan: () => [wouldWrite(path('password'), secret('horse-battery\\n')), 'tell those who need it'],
      run: ({ files }) => files.write(path('password'), secret('horse-battery\\n')),
    }),
    step('Swap key and certificate', {
      run: async ctx => {
        const { key, certificate } = ctx.vars
        await stageFiles(ctx, ctx.run, [
          { path: path('tls.key'), content: secret(key) },
          { path: path('tls.crt'), content: certificate },
        ])
        await swapFiles(ctx, ctx.run, { rename: [path('tls.key'), path('tls.crt')], link: [], remove: [] })
      },
    }),
  ])],
})`

/** Files as they may be on a host, and what to call the playbook with. */
async function scene({ folder, inventory, playbook }: Workbench) {
  const etc = join(folder, 'etc')
  mkdirSync(etc)
  // The control machine's own; it must be there before, or making it is what changes.
  mkdirSync(join(folder, 'state'))
  const [old, next] = [await issue({ name: 'CN=api, O=old' }), await issue({ name: 'CN=api, O=new' })]
  for (const [name, text, mode] of [
    ['plain.conf', 'a = 1\nb = 2\n', 0o640],
    ['same.conf', 'same\n', 0o600],
    ['password', 'horse-carriage\n', 0o600],
    ['tls.key', old.keyPem, 0o600],
    ['tls.crt', old.pem, 0o644],
  ] as const) {
    writeFileSync(join(etc, name), text)
    chmodSync(join(etc, name), mode)
  }
  const variables = join(folder, 'vars.json')
  writeFileSync(variables, JSON.stringify({ key: next.keyPem, certificate: next.pem }), { mode: 0o600 })
  return { etc, next, args: ['run', playbook(writing(etc)), '-i', inventory, '-e', `@${variables}`] }
}

/** Everything about every file of a host that a run could change: path, kind, mode, owner, size, times, inode, content. */
function filesystem({ folder }: Workbench): string[] {
  const found = execFileSync(
    'find',
    ['.', '-path', './state', '-prune', '-o', '-printf', '%p %y %m %U:%G %s %T@ %C@ %i %l\n'],
    {
      cwd: folder,
      encoding: 'utf8',
    },
  )
  const hashes = execFileSync(
    'sh',
    ['-c', 'find . -path ./state -prune -o -type f -print0 | sort -z | xargs -0 sha256sum'],
    {
      cwd: folder,
      encoding: 'utf8',
    },
  )
  return [...found.split('\n').sort(), ...hashes.split('\n')]
}

real('--check changes nothing: every file of the host is as it was, to the inode and the times', async t => {
  const { bench } = t.context
  const { args } = await scene(bench)
  const before = filesystem(bench)
  for (const more of [['--check'], ['--check', '--diff'], ['--check', '--diff', '-v', '--output', 'json']]) {
    const { code, stdout, stderr } = await bench.rekey([...args, ...more], served)
    t.is(code, 0, stdout + stderr)
    t.deepEqual(filesystem(bench), before, more.join(' '))
  }
  // And had it not been a check, this would have shown.
  t.is((await bench.rekey(args, served)).code, 0)
  t.notDeepEqual(filesystem(bench), before)
})

real('--check --diff shows what steps would write, and leaves out what is there already', async t => {
  const { bench } = t.context
  const { args } = await scene(bench)
  const { stdout } = await bench.rekey([...args, '--check', '--diff'])
  t.regex(
    stdout,
    /h1 \| --- \S+\/plain\.conf\n +h1 \| \+\+\+ \S+\/plain\.conf\n +h1 \| @@ -1,2 \+1,2 @@\n +h1 \| {2}a = 1\n +h1 \| -b = 2\n +h1 \| \+b = 3\n +would change +Write the settings.*\n +would: write \S+\/plain\.conf/,
  )
  t.regex(stdout, /ok +Write what is there \[h1\]/)
  t.regex(
    stdout,
    /h1 \| -«[0-9a-f]{12}»\n +h1 \| \+«[0-9a-f]{12}»\n +would change +Write a password.*\n.*password\n +would: tell those who need it/,
  )
  t.notRegex(stdout, /horse/)
  t.notRegex((await bench.rekey([...args, '--check'], served)).stdout, /b = 3/)
})

real(
  '--diff shows what steps write: keys as fingerprints, certificates as fields, and not one secret in what is kept',
  async t => {
    const { bench } = t.context
    const { args, etc, next } = await scene(bench)
    const { code, stdout, stderr } = await bench.rekey([...args, '--diff', '--junit', 'report.xml'])
    t.is(code, 0, stdout + stderr)
    t.regex(stdout, /h1 \| -b = 2\n +h1 \| \+b = 3\n +changed +Write the settings/)
    t.regex(
      stdout,
      /--- \S+\/etc\/tls\.key\n.*\n.*@@\n +h1 \| ------PRIVATE KEY sha256:[0-9a-f]{32}-----\n +h1 \| \+-----PRIVATE KEY sha256:/,
    )
    t.regex(stdout, /-certificate .*O=old\n[\s\S]*\+certificate .*O=new\n/)
    t.regex(stdout, /\+ {2}sha256 [0-9A-F:]{95}/)
    t.is(readFileSync(join(etc, 'tls.key'), 'utf8'), next.keyPem)
    const kept = ['report.xml', join('state', 'rekey', 'runs')].map(path =>
      execFileSync('sh', ['-c', `grep -rh '' ${path}`], { cwd: bench.folder, encoding: 'utf8' }),
    )
    const line = next.keyPem.split('\n')[1] ?? ''
    for (const text of [stdout, ...kept]) {
      t.notRegex(text, /horse/)
      t.false(text.includes(line))
      t.notRegex(text, /BEGIN (PRIVATE KEY|CERTIFICATE)/)
    }
  },
)

/** A step that copies, with a plan; one that swaps, removes and links; one that writes on another host; a way back. */
const copying = (folder: string) => `
import { backUpFiles, copy, play, playbook, restoreFiles, secret, stageFiles, step, swapFiles, wouldCopy } from API
import { z } from ZOD
const path = name => '${folder}/etc/' + name
const copied = [
  { path: path('plain.conf'), content: 'a = 1\\nb = 4\\n' },
  { path: path('new/open.conf'), source: '${folder}/open.conf' },
  { path: path('password'), content: secret('horse-battery\\n') },
  { path: path('same.conf'), content: 'same\\n', mode: 0o600 },
  { path: path('big'), source: '${folder}/big' },
]
const removed = { rename: [], link: [], remove: [path('tls.crt')] }
export default playbook({ name: 'copies', summary: 'Copies files', vars: z.object({}), plays: [play('Copy', { hosts: 'h1' }, [
  step('Back up', { plan: () => 'back up', run: ctx => backUpFiles(ctx, '${folder}/backup/host.tgz', [path('tls.crt'), path('password')]) }),
  step('Copy', { plan: ctx => wouldCopy(ctx, copied), run: ctx => copy(ctx, copied).then(() => {}) }),
  step('Remove', { plan: () => 'remove the certificate', run: ctx => swapFiles(ctx, ctx.run, removed),
    rollback: ctx => restoreFiles(ctx, ctx.run, '${folder}/backup/host.tgz', [path('tls.crt'), path('password')]) }),
  step('Elsewhere', { plan: () => [], run: async ctx => (await ctx.on('h2')).files.write(path('elsewhere'), 'there\\n') }),
])] })`

real('--diff shows what is copied, removed, put back and written elsewhere; --check what would be copied', async t => {
  const { sshd } = t.context
  const bench = workbench(sshd, ['h1', 'h2'], true)
  await scene(bench)
  const { folder } = bench
  // What only some may read is shown to nobody.
  chmodSync(join(folder, 'etc', 'plain.conf'), 0o644)
  writeFileSync(join(folder, 'open.conf'), 'open = yes\n')
  writeFileSync(join(folder, 'big'), Buffer.alloc(9 * 1024 * 1024, 'x'))
  const args = ['run', bench.playbook(copying(folder)), '-i', bench.inventory, '--diff']
  const before = filesystem(bench)
  const checked = await bench.rekey([...args, '--check'])
  t.deepEqual(filesystem(bench), before)
  const done = await bench.rekey(args)
  for (const { code, stdout, stderr } of [checked, done]) {
    t.is(code, 0, stdout + stderr)
    t.regex(
      stdout,
      /h1 \| --- \S+\/plain\.conf\n[^-+]*\+\+\+ \S+\/plain\.conf\n.*@@\n.*a = 1\n.*\| -b = 2\n.*\| \+b = 4\n/,
    )
    t.regex(stdout, /h1 \| --- \/dev\/null\n.*\+\+\+ \S+\/new\/open\.conf\n.*@@ -0,0 \+1,1 @@\n.*\| \+open = yes\n/)
    t.regex(stdout, /\/password\n.*@@\n.*\| -«[0-9a-f]{12}»\n.*\| \+«[0-9a-f]{12}»\n/)
    t.notRegex(stdout, /horse|same\.conf|\+\+\+ \S+\/big/)
  }
  t.regex(
    checked.stdout,
    /would: write \S+\/plain\.conf\n +would: write \S+open\.conf\n +would: write \S+\/password\n +would: write \S+\/big\n/,
  )
  t.regex(checked.stdout, /ok +Elsewhere/)
  t.is(readFileSync(join(folder, 'etc', 'new', 'open.conf'), 'utf8'), 'open = yes\n')
  t.is(readFileSync(join(folder, 'etc', 'password'), 'utf8'), 'horse-battery\n')
  t.regex(done.stdout, /\+\+\+ \/dev\/null\n.*@@ -1,\d+ \+0,0 @@\n.*\| -certificate .*O=old\n/)
  t.regex(done.stdout, /h1 \| \+\+\+ h2:\S+\/elsewhere\n.*\n.*\| \+there\n/)
  const undone = await bench.rekey(['rollback', 'last', '--diff'])
  t.is(undone.code, 0, undone.stdout)
  t.regex(undone.stdout, /--- \/dev\/null\n.*\+\+\+ \S+\/tls\.crt\n.*\n.*\| \+certificate .*O=old\n/)
  t.regex(undone.stdout, /\/password\n.*@@\n.*\| -«[0-9a-f]{12}»\n.*\| \+«[0-9a-f]{12}»\n/)
  t.notRegex(undone.stdout, /horse/)
  t.is(readFileSync(join(folder, 'etc', 'password'), 'utf8'), 'horse-carriage\n')
})
