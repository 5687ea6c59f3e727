// What holds credentials for registries is read and changed as Docker and kubelets read it.
import test from 'ava'
import {
  basicOf,
  credentialOf,
  entriesOf,
  registryOf,
  type Shape,
  withCredential,
} from '../../../lib/credentials/registry/docker-config.ts'
import { credentialsIn, withRuntimeCredential } from '../../../lib/credentials/registry/runtime-config.ts'

const old = { user: 'robot', password: 'first:one' }
const next = { user: 'robot-2', password: 'second"one\\' }
const auth = basicOf(old)

for (const [title, name, registry, found] of [
  ['its host', 'reg.example.com', 'reg.example.com', true],
  ['an address as old clients write it', 'https://reg.example.com/v1/', 'reg.example.com', true],
  ['capitals', 'Reg.Example.com', 'reg.example.com', true],
  ['its host and port', 'reg.example.com:5000', 'reg.example.com:5000', true],
  ['another port', 'reg.example.com:5001', 'reg.example.com:5000', false],
  ['a longer host', 'reg.example.com.evil.example', 'reg.example.com', false],
  ['a part of it', 'reg.example.com/team', 'reg.example.com', true],
  ['one of the names of Docker Hub', 'https://index.docker.io/v1/', 'docker.io', true],
] as const)
  test(`an entry that is named by ${title} is ${found ? 'one' : 'none'} of the registry`, t => {
    const text = JSON.stringify({ auths: { [name]: { auth } } })
    t.is(entriesOf(text, 'config', registry, 'robot').entries.length, found ? 1 : 0)
  })

test('an entry for many hosts is told, and left alone', t => {
  const text = JSON.stringify({ auths: { '*.example.com': { auth }, '*.other.com': { auth }, '*.com': { auth } } })
  const { entries, beside } = entriesOf(text, 'config', 'reg.example.com', 'robot')
  t.deepEqual(entries, [])
  t.deepEqual(beside, ['its entry *.example.com serves reg.example.com, too, and is left alone'])
})

test('whom an entry is for is read as kubelets read it: auth counts before the two other fields', t => {
  t.deepEqual(credentialOf({ auth, username: 'somebody', password: 'else' }), old)
  t.deepEqual(credentialOf({ auth: auth.replace(/=+$/, '') }), old)
  t.deepEqual(credentialOf({ username: 'robot', password: 'first:one' }), old)
  for (const none of [{}, undefined, 'text', [], { auth: 'AAAA' }, { username: 'robot' }, { auth: '' }])
    t.is(credentialOf(none), undefined)
})

for (const [shape, wrap] of [
  ['config', (auths: object) => ({ auths, credsStore: 'kept' })],
  ['cfg', (auths: object) => auths],
] as const)
  test(`${shape}: one entry is changed in the fields that it has, and all else stays`, t => {
    const others = { 'other.example.com': { auth }, odd: 3 }
    const mine = { 'reg.example.com': { username: 'robot', auth, email: 'a@b' } }
    const text = `${JSON.stringify(wrap({ ...others, ...mine }), undefined, 4)}\n`
    const changed = withCredential(text, shape as Shape, 'reg.example.com', 'robot', next)
    t.is(
      changed,
      `${JSON.stringify(wrap({ ...others, 'reg.example.com': { username: next.user, auth: basicOf(next), email: 'a@b' } }), undefined, 4)}\n`,
    )
    t.is(withCredential(changed, shape as Shape, 'reg.example.com', next.user, old), text, 'and back')
    t.is(withCredential(text, shape as Shape, 'reg.example.com', 'nobody', next), text)
  })

test('what is no configuration holds nothing, and is left alone', t => {
  for (const text of ['', 'null', '[]', '{', '{"auths":[]}', '{"auths":{"reg.example.com":null}}']) {
    t.deepEqual(entriesOf(text, 'config', 'reg.example.com', 'robot').entries, [])
    t.is(withCredential(text, 'config', 'reg.example.com', 'robot', next), text)
  }
})

test('an entry that logs in by a token is refused', t => {
  const text = JSON.stringify({ auths: { 'reg.example.com': { auth, identitytoken: 'abc' } } })
  t.throws(() => withCredential(text, 'config', 'reg.example.com', 'robot', next), { code: 'registry.token' })
})

test('an image without a host is one of Docker Hub', t => {
  t.is(registryOf('nginx'), 'docker.io')
  t.is(registryOf('library/nginx:1'), 'docker.io')
  t.is(registryOf('reg.example.com/a/b@sha256:0'), 'reg.example.com')
  t.is(registryOf('localhost/a'), 'localhost')
  t.is(registryOf('10.0.0.1:5000/a:b'), '10.0.0.1:5000')
})

const hosts = `server = "https://reg.example.com"   # as the page has it

[host."https://mirror.example.com"]
  capabilities = ["pull"]
  [host."https://mirror.example.com".header]
    Authorization = "Basic ${auth}"

[host."https://reg.example.com".header]
  authorization = ["Basic ${auth}"] # ours: Authorization = "x"
  x-other = "kept"
`

test('a header of hosts.toml is changed where it is for the registry, whatever registry the folder is for', t => {
  for (const folder of ['reg.example.com', 'docker.io']) {
    const file = { path: `/etc/containerd/certs.d/${folder}/hosts.toml`, text: hosts }
    t.deepEqual(credentialsIn(file, 'reg.example.com'), [old])
    const changed = withRuntimeCredential(file, 'reg.example.com', 'robot', next)
    t.is(changed, hosts.replace(`["Basic ${auth}"]`, `["Basic ${basicOf(next)}"]`))
    t.is(withRuntimeCredential({ ...file, text: changed }, 'reg.example.com', next.user, old), hosts)
    t.is(withRuntimeCredential(file, 'reg.example.com', 'nobody', next), hosts)
  }
})

test('a header at the top of a file is for the registry of its folder', t => {
  const text = `[header]\nAuthorization = "Basic ${auth}"\n`
  const inFolder = (folder: string) => credentialsIn({ path: `/x/${folder}/hosts.toml`, text }, 'reg.example.com:5000')
  t.deepEqual(inFolder('reg.example.com:5000'), [old])
  t.deepEqual(inFolder('reg.example.com_5000_'), [old])
  t.deepEqual(inFolder('reg.example.com'), [])
})

const config = (own: string) => `version = 2
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.grpc.v1.cri".registry.configs."other.example.com".auth]
  username = "robot"
  password = "first:one"
${own}[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
`
const table = '[plugins."io.containerd.grpc.v1.cri".registry.configs."reg.example.com'
for (const [title, own] of Object.entries({
  'a line for each': `${table}".auth]\n  username = 'robot'\n  password = "first:one"\n`,
  'in one table': `${table}"]\n  auth = { username = "robot", password = "first:one" }\n`,
  'both in one': `${table}".auth]\n  auth = "${auth}" # auth = "AAAA"\n`,
}))
  test(`config.toml: user and password are changed for the registry alone, ${title}`, t => {
    const file = { path: '/etc/containerd/config.toml', text: config(own) }
    t.deepEqual(credentialsIn(file, 'reg.example.com'), [old])
    const changed = withRuntimeCredential(file, 'reg.example.com', 'robot', next)
    t.not(changed, file.text)
    t.deepEqual(credentialsIn({ ...file, text: changed }, 'reg.example.com'), [next])
    t.deepEqual(credentialsIn({ ...file, text: changed }, 'other.example.com'), [old])
    const back = withRuntimeCredential({ ...file, text: changed }, 'reg.example.com', next.user, old)
    t.is(back, config(own.replace("'robot'", '"robot"')))
  })

test('blanks without an end take no time', t => {
  const blanks = ' '.repeat(300_000)
  const text = `{"auths":{"reg.example.com":{"auth":"${auth}"}},"x":"${blanks}y"}`
  const from = performance.now()
  t.regex(withCredential(text, 'config', 'reg.example.com', 'robot', next), /y"}$/)
  const file = { path: '/etc/containerd/config.toml', text: `${config('')}auth = ${blanks}[${blanks}x\n` }
  t.is(withRuntimeCredential(file, 'reg.example.com', 'robot', next), file.text)
  t.true(performance.now() - from < 20_000)
})
