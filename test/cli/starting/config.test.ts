// rekey.yml: where it is looked for, which of the places wins, what is a mistake in it, and that `rekey config` and a run go by it.
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import { settingNameOf } from '../../../lib/cli/options/settable.ts'
import { optionValue } from '../../../lib/cli/options/settings.ts'
import { runCommand } from '../../../lib/cli/run.ts'
import { RekeyError } from '../../../lib/errors.ts'
import { readConfiguration, type SettingName, settings } from '../../../lib/inventory/index.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { workbench } from '../_rekey.ts'

/** A folder with these files, nobody else's to write. */
function folderOf(files: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder('settings')
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text, { mode: 0o600 })
  }
  return folder
}

function found(folder: string, name: SettingName, environment: NodeJS.ProcessEnv = {}): string | undefined {
  return readConfiguration({ cwd: folder, environment: { HOME: folder, ...environment } }).find(name)?.value
}

function mistake(text: string): string {
  const folder = folderOf({ 'rekey.yml': text })
  try {
    found(folder, 'forks')
    return 'none'
  } catch (error) {
    if (!(error instanceof RekeyError)) throw error
    return error.message.replace(`${folder}/`, '')
  }
}

test('the environment wins over rekey.yml, and that over ansible.cfg', t => {
  const folder = folderOf({
    'rekey.yml': 'connection:\n  user: by-rekey\n',
    'ansible.cfg': '[defaults]\nremote_user = by-ansible\nforks = 7\n[privilege_escalation]\nbecome = yes\n',
  })
  t.is(found(folder, 'connection.user', { ANSIBLE_REMOTE_USER: 'by-environment' }), 'by-environment')
  t.is(found(folder, 'connection.user'), 'by-rekey')
  t.is(found(folder, 'forks'), '7')
  t.is(found(folder, 'connection.become'), 'yes')
  t.is(found(folder, 'view.output'), undefined)
  // As the hints of errors have it.
  t.is(found(folder, 'forks', { ANSIBLE_CONFIG: '/dev/null' }), undefined)
})

test('what ansible.cfg may say holds as Ansible takes it, and what rekey has not is left to the hosts', t => {
  const folder = folderOf({
    'ansible.cfg':
      '[defaults]\ntransport = docker\nprivate_key_file = $HOME{{CWD}}/x\n[privilege_escalation]\nbecome_method = ansible.builtin.sudo\n',
    'rekey.yml': 'connection:\n  timeout: soon\n',
  })
  const configuration = readConfiguration({ cwd: folder, environment: { ANSIBLE_FORKS: 'x' } })
  const { options } = runCommand()
  const value = (name: SettingName, given = configuration.find(name)!) =>
    optionValue(options.find(one => settingNameOf(one) === name)!, given)
  t.is(value('connection.kind'), 'docker')
  t.is(value('connection.become_method'), 'sudo')
  t.is(value('connection.private_key'), `${process.env['HOME']}${process.cwd()}/x`)
  t.is(t.throws<RekeyError>(() => value('connection.timeout')).hint, 'Correct it there.')
  t.throws(() => value('connection.kind', { value: 'docker', from: 'rekey.yml', own: true, folder }))
  t.is(
    t.throws<RekeyError>(() => value('forks')).hint,
    'Correct it, or leave it out for rekey: env -u ANSIBLE_FORKS rekey …',
  )
})

test('it is that of this folder, or of the nearest one above it in the same git repository; REKEY_CONFIG names another', t => {
  const folder = folderOf({ 'rekey.yml': 'forks: 1\n', 'a/b/c': '', 'own.yml': 'forks: 3\n' })
  const below = join(folder, 'a/b')
  t.is(found(below, 'forks'), undefined)
  mkdirSync(join(folder, '.git'))
  t.is(found(below, 'forks'), '1')
  writeFileSync(join(folder, 'a/package.json'), '{\n  "name": "x",\n  "rekey": { "forks": 2 }\n}\n')
  t.is(found(below, 'forks'), '2')
  t.is(readConfiguration({ cwd: below, environment: {} }).find('forks')?.line, 3)
  t.is(found(below, 'forks', { REKEY_CONFIG: '../../own.yml' }), '3')
  t.is(found(below, 'forks', { REKEY_CONFIG: '/dev/null' }), undefined)
  t.throws(() => found(below, 'forks', { REKEY_CONFIG: 'nowhere.yml' }), { message: /nowhere\.yml/ })
  writeFileSync(join(folder, 'a/rekey.yml'), 'forks: 4\n')
  t.throws(() => found(below, 'forks'), { message: /rekey\.yml and "rekey" in .*package\.json are both there/ })
})

test('what everybody may write is not read, and that is said', t => {
  const folder = folderOf({ 'rekey.yml': 'forks: 1\n' })
  chmodSync(folder, 0o777)
  const open = readConfiguration({ cwd: folder, environment: {} })
  t.is(open.find('forks'), undefined)
  t.is(open.ignored, `${folder}/rekey.yml is not read: everybody may write to ${folder}`)
  chmodSync(folder, 0o700)
  chmodSync(join(folder, 'rekey.yml'), 0o666)
  t.regex(readConfiguration({ cwd: folder, environment: {} }).ignored ?? '', /everybody may write to it$/)
})

test('what is no setting, or none of its kind, is one error with its line and what may be meant', t => {
  t.is(mistake('# ours\nfroks: 3\n'), `rekey.yml:2: "froks" is no setting; did you mean 'forks'?`)
  t.is(mistake('connection:\n  usr: a\n'), `rekey.yml:2: "connection.usr" is no setting; did you mean 'user'?`)
  t.is(mistake('become: true\n'), `rekey.yml:1: "become" is no setting; did you mean 'connection: become'?`)
  t.is(mistake('connection: ssh\n'), 'rekey.yml:1: connection must be a map, not a string')
  t.is(mistake('connection:\n  become: [a]\n'), 'rekey.yml:2: connection.become must be true or false, not a list')
  t.is(mistake('forks:\n  - 1\n'), 'rekey.yml:2: forks must be a text, not a list')
  t.is(mistake('inventory:\n  a: b\n'), 'rekey.yml:2: inventory must be a text, or a list of texts, not a map')
  t.is(mistake('forks: 1\nforks: 2\n'), 'rekey.yml:2: the key "forks" was already given in line 1')
  t.regex(mistake('forks: [\n'), /^rekey\.yml:2/)
  t.is(mistake('- forks\n'), 'rekey.yml:1: it must be a map, not a list')
  t.is(mistake('connection:\nview:\n'), 'none')
  t.is(mistake(''), 'none')
})

test('rekey config tells each setting, its value and its line; a run, its resumption and rekey playbooks go by them', async t => {
  const bench = workbench('local', ['h1'], true)
  mkdirSync(join(bench.folder, 'ours'))
  const file = bench.playbook(`import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'greet', summary: 'Greets', vars: z.object({}), plays: [
  play('Greet', { hosts: 'all' }, [step('Say it', { run: ({ $ }) => $\`echo "by $0"; test -e \${'${bench.folder}/go'}\` })]),
] })`)
  writeFileSync(join(bench.folder, 'ours/greet.ts'), readFileSync(file))
  const written = `inventory: hosts.yml
playbooks: ours
forks: 3
connection:
  kind: local
  user: somebody
  timeout: 1m
  become_password_file: password
view:
  output: json
`
  writeFileSync(join(bench.folder, 'rekey.yml'), written)
  writeFileSync(join(bench.folder, 'password'), 'the password\n', { mode: 0o600 })
  const { stdout } = await bench.rekey(['config', '--json'])
  const told = (JSON.parse(stdout) as { settings: { name: string; value?: unknown; source: string; line?: number }[] })
    .settings
  t.deepEqual(
    told.map(({ name }) => name),
    Object.keys(settings),
  )
  const one = (name: string) => told.find(setting => setting.name === name)
  t.like(one('connection.timeout'), { value: '1m', source: 'file', line: 7 })
  t.like(one('playbooks'), { value: ['ours'], line: 2 })
  t.like(one('view.keep_output'), { value: '64 MB', source: 'default' })
  t.regex((await bench.rekey(['config'])).stdout, /^forks +3 +rekey\.yml:3$/m)
  writeFileSync(join(bench.folder, 'ours/broken.ts'), 'export default nothing\n')
  writeFileSync(join(bench.folder, 'ours/helper.ts'), "console.log('RUN')\nexport const a = 1\n")
  const listed = await bench.rekey(['playbooks'])
  t.regex(listed.stdout, /^broken \(yours\)\n {2}.*nothing is not defined\ngreet \(yours\)\n {2}Greets\n/)
  t.notRegex(listed.stdout, /RUN|helper/)

  const ran = await bench.rekey(['run', 'greet'])
  t.is(ran.code, 2)
  t.regex(ran.stdout, /^\{/)
  // The inventory has its own user: nobody is told that a setting for all is not used there.
  t.notRegex(ran.stderr, /is not used/)
  t.regex((await bench.rekey(['run', 'greet', '-u', 'x', '--list-hosts'])).stdout, /h1/)
  t.regex((await bench.rekey(['run', 'greet', '--output', 'plain'])).stdout, /^Run /m)
  bench.touch('go')
  writeFileSync(join(bench.folder, 'rekey.yml'), written.replace('kind: local', 'kind: openssh'))
  rmSync(join(bench.folder, 'password'))
  t.regex((await bench.rekey(['resume', 'last'])).stderr, /no BECOME password/)
  writeFileSync(join(bench.folder, 'password'), 'the password\n', { mode: 0o600 })
  const resumed = await bench.rekey(['resume', 'last'])
  t.is(resumed.code, 0, resumed.stderr)

  writeFileSync(join(bench.folder, 'rekey.yml'), written.replace('1m', 'soon'))
  for (const words of [['config'], ['run', 'greet']]) {
    const { code, stderr } = await bench.rekey(words)
    t.is(code, 1)
    t.regex(stderr, /Error: connection\.timeout in \S+\/rekey\.yml:7 is "soon": It must be a duration/)
  }
})
