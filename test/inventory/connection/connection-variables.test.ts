// From connection variables to the settings of a connection.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { RekeyError } from '../../../lib/errors.ts'
import { type Inventory, loadInventory } from '../../../lib/inventory/index.ts'
import { writeFiles } from '../temporary-files.ts'

interface Loaded {
  readonly inventory: Inventory
  readonly folder: string
  readonly told: string[]
}

async function load(t: ExecutionContext, files: Readonly<Record<string, string>>): Promise<Loaded> {
  // An empty configuration, so that the one of whoever runs the tests has no say; -F of a test comes first.
  const folder = writeFiles(t, { 'group_vars/all.yml': 'ansible_ssh_args: -F ssh_config\n', ssh_config: '', ...files })
  const told: string[] = []
  const inventory = await loadInventory({
    sources: ['hosts.yml'],
    cwd: folder,
    environment: { HOME: '/home/op' },
    notice: line => told.push(line),
  })
  return { inventory, folder, told }
}

const oneHost = (variables: string): Readonly<Record<string, string>> => ({
  'hosts.yml': `all:\n  hosts:\n    h1: ${variables}\n`,
})

test.serial('a host without variables is reached by its name, on port 22', async t => {
  const { inventory } = await load(t, oneHost(''))
  t.deepEqual(inventory.host('h1').connection, {
    kind: 'ssh',
    address: 'h1',
    port: 22,
    user: userInfo().username,
    hostKeyChecking: 'yes',
    connectTimeout: 10,
  })
})

test.serial('address, port, user, key, password and become', async t => {
  const { inventory } = await load(
    t,
    oneHost(
      '{ansible_host: 10.0.0.1, ansible_port: "2222", ansible_user: admin, ansible_ssh_private_key_file: ~/.ssh/k, ansible_password: "{{ pw }}", pw: word, ansible_become: "yes", ansible_become_user: www, ansible_become_password: bw, ansible_timeout: 5}',
    ),
  )
  t.deepEqual(inventory.host('h1').connection, {
    kind: 'ssh',
    address: '10.0.0.1',
    port: 2222,
    user: 'admin',
    privateKeyFile: '/home/op/.ssh/k',
    password: 'word',
    hostKeyChecking: 'yes',
    become: { method: 'sudo', user: 'www', password: 'bw' },
    connectTimeout: 5,
  })
})

test.serial("options of ssh's command line: the first of two counts", async t => {
  const { inventory, folder } = await load(t, {
    'hosts.yml': `
all:
  hosts:
    h1:
      ansible_ssh_common_args: -o UserKnownHostsFile="known hosts" -oStrictHostKeyChecking=accept-new -J op@bastion:2200,inner -o 'ConnectTimeout 7'
      ansible_ssh_extra_args: -o StrictHostKeyChecking=yes -i key -p 2022 -l other
`,
  })
  const { connection } = inventory.host('h1')
  t.is(connection.hostKeyChecking, 'accept-new')
  t.deepEqual(connection.proxyJump, ['op@bastion:2200', 'inner'])
  t.is(connection.connectTimeout, 7)
  t.is(connection.privateKeyFile, join(folder, 'key'))
  t.is(connection.port, 2022)
  t.is(connection.user, 'other')
  t.deepEqual(connection.knownHostsFiles?.slice(0, 2), [join(folder, 'known'), join(folder, 'hosts')])
})

test.serial('a proxy command, and a host that is this machine', async t => {
  const { inventory } = await load(t, {
    'hosts.yml':
      'all:\n  hosts:\n    far: {ansible_ssh_common_args: \'-o ProxyCommand="nc -X 5 %h %p"\'}\n    here: {ansible_connection: local}\n',
  })
  t.is(inventory.host('far').connection.proxyCommand, 'nc -X 5 %h %p')
  t.is(inventory.host('here').connection.kind, 'local')
  t.is(inventory.host('localhost').connection.kind, 'local')
})

test.serial('host key checking that is off still refuses changed keys, and says so', async t => {
  const { inventory, told } = await load(t, oneHost('{ansible_ssh_common_args: -o StrictHostKeyChecking=no}'))
  t.is(inventory.host('h1').connection.hostKeyChecking, 'accept-new')
  t.deepEqual(told, [
    'h1: host key checking is off in the inventory; rekey still records new keys and refuses changed ones',
  ])
})

test.serial('connection variables that are not used are named, each once', async t => {
  const { inventory, told } = await load(t, {
    'hosts.yml':
      'all:\n  vars: {ansible_python_interpreter: /usr/bin/python3, ansible_become_flags: -H}\n  hosts: {h1: , h2: {ansible_pipelining: true, ansible_distribution: Debian}}\n',
  })
  for (const host of inventory.hosts) t.truthy(host.connection)
  t.deepEqual(told, [
    'the inventory sets ansible_become_flags, which rekey does not use',
    'the inventory sets ansible_python_interpreter, which rekey does not use',
    'the inventory sets ansible_pipelining, which rekey does not use',
  ])
})

const wrong: Record<string, RegExp> = {
  '{ansible_port: http}': /^h1: ansible_port must be a port number, not http$/,
  '{ansible_port: 70000}': /^h1: ansible_port must be a port number, not 70000$/,
  '{ansible_host: [1]}': /^h1: ansible_host must be text$/,
  '{ansible_connection: docker}':
    /^h1: ansible_connection is "docker", and rekey connects by ssh, openssh or local only$/,
  '{ansible_become: true, ansible_become_method: runas}':
    /^h1: ansible_become_method is "runas", and rekey knows sudo, su and doas$/,
  '{ansible_ssh_common_args: "-o \'X"}': /^h1: ansible_ssh_common_args has a quote that is not closed$/,
  '{ansible_ssh_common_args: nonsense}': /^h1: ansible_ssh_common_args has "nonsense", which is no option of ssh$/,
  '{ansible_timeout: soon}': /^h1: ansible_timeout must be a number of seconds$/,
}
for (const [variables, message] of Object.entries(wrong)) {
  test.serial(`refused when the connection is asked for: ${variables}`, async t => {
    const { inventory } = await load(t, oneHost(variables))
    const error = t.throws(() => inventory.host('h1').connection, { instanceOf: RekeyError, message })
    t.is(error.host, 'h1')
  })
}

const withSsh = existsSync('/usr/bin/ssh') ? test : test.skip

withSsh('the configuration of ssh counts: Host, Match and Include, below what the inventory says', async t => {
  const { inventory, folder } = await load(t, {
    'hosts.yml':
      'all:\n  hosts:\n    web1:\n    web2: {ansible_user: mine, ansible_port: 2299}\n    db1: {ansible_host: database}\n    other:\n',
    ssh_config: `
Include %FOLDER%/more
Host web*
  HostName %h.example.com
  User deploy
  Port 2201
  IdentityFile ~/.ssh/web
Match host database user ${userInfo().username}
  ProxyJump bastion,me@other:2022
  StrictHostKeyChecking accept-new
`,
    more: 'Host other\n  User included\n  UserKnownHostsFile /etc/known_others\nHost bastion\n  HostName b.example.com\n  User hop\n',
  })
  writeFileSync(
    join(folder, 'ssh_config'),
    readFileSync(join(folder, 'ssh_config'), 'utf8').replace('%FOLDER%', folder),
  )
  const settings = (name: string) => inventory.host(name).connection
  t.is(settings('web1').address, 'web1.example.com')
  t.is(settings('web1').user, 'deploy')
  t.is(settings('web1').port, 2201)
  t.is(settings('web1').privateKeyFile, '/home/op/.ssh/web')
  t.is(settings('web2').user, 'mine')
  t.is(settings('web2').port, 2299)
  t.is(settings('web2').address, 'web2.example.com')
  t.deepEqual(settings('db1').proxyJump, ['hop@b.example.com', 'me@other:2022'])
  t.is(settings('db1').hostKeyChecking, 'accept-new')
  t.is(settings('other').user, 'included')
  t.is(settings('other').knownHostsFiles?.[0], '/etc/known_others')
})

withSsh('a mistake in the configuration of ssh is told in its own words', async t => {
  const { inventory } = await load(t, { ...oneHost(''), ssh_config: 'Host *\n  NoSuchOption yes\n' })
  t.throws(() => inventory.host('h1').connection, {
    message: /the configuration of ssh can't be read: .*(bad|Bad) configuration option/i,
  })
})

withSsh(
  "the system's ssh gets every option of the inventory, and the name by which its configuration knows the host",
  async t => {
    const { inventory, folder, told } = await load(t, {
      ...oneHost(
        '{ansible_connection: openssh, ansible_host: web, ansible_ssh_common_args: -o CertificateFile=c -o ServerAliveInterval=7}',
      ),
      ssh_config: 'Host web\n  HostName web.example.com\n  Port 2201\n',
    })
    const { kind, address, port, openssh, keepalive } = inventory.host('h1').connection
    t.deepEqual({ kind, address, port }, { kind: 'openssh', address: 'web.example.com', port: 2201 })
    t.deepEqual(openssh, {
      destination: 'web',
      options: ['certificatefile=c', 'serveraliveinterval=7'],
      configurationFile: join(folder, 'ssh_config'),
    })
    t.deepEqual(keepalive, { seconds: 7, count: 3 })
    t.deepEqual(told, [])
  },
)

test.serial('options of ssh that have no effect are named, those of its connection sharing are not', async t => {
  const { inventory, told } = await load(
    t,
    oneHost(
      '{ansible_ssh_common_args: -o ControlMaster=auto -o ControlPersist=60s -o PubkeyAuthentication=no -o HostKeyAlias=x -C}',
    ),
  )
  t.truthy(inventory.host('h1').connection)
  t.deepEqual(told, [
    'PubkeyAuthentication in ansible_ssh_common_args is not used: it needs ansible_connection=openssh',
    'HostKeyAlias in ansible_ssh_common_args is not used: it needs ansible_connection=openssh',
    '-C in ansible_ssh_common_args is not used',
  ])
})
