// `rekey kubeconfig` where there is no cluster, the files that it writes, and whose entries of a kubeconfig it takes for a cluster's.
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readOwnFile, requireFree, writeOwnFile } from '../../../lib/cli/options/own-file.ts'
import { withTrustOfNow } from '../../../lib/cli/users/kubeconfig.ts'
import { asAdministrator } from '../../../lib/cli/users/user-access.ts'
import { clustersOf, kubeconfigText } from '../../../lib/kubernetes/api/kubeconfig-text.ts'
import { publicKeyOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { workbench } from '../_rekey.ts'

const [own, other] = await Promise.all(['kubernetes', 'k3s'].map(name => issue({ name: `CN=${name}`, ca: true })))

test('a file is its owner’s alone, is never written over unless that is said, and never half written', t => {
  const folder = temporaryFolder('own-file')
  const path = join(folder, 'kubeconfig')
  writeOwnFile(path, 'first', 'nothing')
  t.is(statSync(path).mode & 0o777, 0o600)
  for (const free of [() => requireFree(path), () => writeOwnFile(path, 'second', 'nothing')])
    t.throws(free, { message: `${path} is there already` })
  t.is(readFileSync(path, 'utf8'), 'first')
  writeFileSync(path, 'of others', { mode: 0o644 })
  const link = join(folder, 'link')
  symlinkSync(path, link)
  t.throws(() => requireFree(link))
  writeOwnFile(link, 'second', 'another')
  t.is(readFileSync(path, 'utf8'), 'second')
  t.is(statSync(path).mode & 0o777, 0o600)
  mkdirSync(join(folder, 'folder'))
  t.throws(() => writeOwnFile(join(folder, 'folder'), 'third', 'another'), { code: 'cli.file' })
  t.deepEqual(readdirSync(folder).sort(), ['folder', 'kubeconfig', 'link'])
})

test('a file that is written anew stays whose it is, and is left alone where it has that text already', t => {
  const folder = temporaryFolder('own-file')
  const path = join(folder, 'config')
  const isRoot = process.getuid?.() === 0
  for (const mode of [0o640, 0o400, 0o644]) {
    writeFileSync(path, 'before')
    if (isRoot) chownSync(path, 4_321, 4_322)
    chmodSync(path, mode)
    const before = statSync(path)
    t.false(writeOwnFile(path, 'before', 'itself'))
    t.is(statSync(path).ctimeMs, before.ctimeMs)
    t.true(writeOwnFile(path, `after ${mode}`, 'itself'))
    t.is(readFileSync(path, 'utf8'), `after ${mode}`)
    const { uid, gid } = before
    t.like(statSync(path), { uid, gid, mode: before.mode })
    chmodSync(path, 0o600)
  }
  t.deepEqual(readdirSync(folder), ['config'])
})

test('what is no regular file is neither read nor replaced', t => {
  const folder = temporaryFolder('own-file')
  const [pipe, link] = [join(folder, 'pipe'), join(folder, 'link')]
  execFileSync('mkfifo', [pipe])
  symlinkSync('/dev/null', link)
  for (const path of [pipe, link, folder]) {
    const refused = { code: 'cli.file', message: `${path} is there, and is no regular file` }
    for (const isReplaced of [true, false]) t.throws(() => requireFree(path, isReplaced), refused)
    t.throws(() => readOwnFile(path), refused)
    t.throws(() => writeOwnFile(path, 'mine', 'another'), refused)
  }
  t.true(statSync(pipe).isFIFO())
  t.deepEqual(readdirSync(folder).sort(), ['link', 'pipe'])
})

test('as whom an administrator comes without a certificate is not guessed', async t => {
  t.throws(() => asAdministrator({}), { code: 'kubeconfig.nameless-administrator' })
  const { pem } = await issue({ name: 'CN=admin,O=admins' })
  t.deepEqual(asAdministrator({ certificate: pem }), { name: 'admin', organizations: ['admins'] })
})

/** Somebody's kubeconfig with the trust of now, by what the administrator's and the inventory say of the cluster, and by options. */
function renewed(
  before: string,
  { administrator = '', inventory = '', ...options }: Record<string, string | undefined>,
): string {
  const access = { keyset: { items: [{ key: publicKeyOf(own!.pem) }] }, bundle: own!.pem }
  const found = { access, administrator: { cluster: 'kubernetes', server: administrator } }
  const given = [{ masters: [{ vars: { api_server: inventory } }] }, found, before, { merge: 'mine', ...options }]
  return withTrustOfNow(...(given as unknown as Parameters<typeof withTrustOfNow>)).text
}

test('an address of loopback makes no entry this cluster’s, unless it is given', t => {
  for (const host of ['127.0.0.1', 'localhost', '[::1]', '127.1.2.3', '0.0.0.0']) {
    const server = `https://${host}:6443`
    const foreign = kubeconfigText({ name: 'k3s', server, bundle: other!.pem })
    for (const theirs of [
      foreign,
      foreign.replace(/certificate-authority-data: .*/, 'insecure-skip-tls-verify: true'),
    ]) {
      for (const from of [{ administrator: server }, { administrator: 'https://10.0.0.1', inventory: server }])
        t.like(
          t.throws<Error & { hint?: string }>(() => renewed(theirs, from)),
          {
            message: 'none of the clusters in mine is known to be this one',
            hint: `Say by --cluster which it is: k3s (${server}).`,
          },
        )
      for (const said of [{ server }, { cluster: 'k3s' }]) {
        const text = renewed(theirs, { administrator: server, ...said })
        t.deepEqual(clustersOf(text, 'mine'), [{ name: 'k3s', server, authorities: [own!.pem] }])
        t.notRegex(text, /insecure/)
      }
    }
  }
})

test('an entry is this cluster’s by its CA, whatever leads there, and by an address at which others reach it', t => {
  const [tunnel, reached] = ['https://127.0.0.1:6443', 'https://10.0.0.1:6443']
  const ofOwn = kubeconfigText({ name: 'tunnel', server: tunnel, bundle: own!.pem + other!.pem })
  const ofAddress = kubeconfigText({ name: 'before', server: reached, bundle: other!.pem })
  const authorities = [own!.pem]
  t.like(clustersOf(renewed(ofOwn, { administrator: tunnel }), 'mine'), [{ authorities }])
  for (const from of [{ administrator: reached }, { administrator: tunnel, inventory: reached }])
    t.like(clustersOf(renewed(ofAddress, from), 'mine'), [{ authorities }])
})

test.serial('what does not go together, a file that is there, and machines without a cluster are said', async t => {
  const bench = workbench('local', ['m1'], true)
  const asked = (...words: string[]) => bench.rekey(['kubeconfig', '-i', bench.inventory, ...words])
  t.regex((await asked('--admin', '--user', 'jane')).stderr, /'--admin' cannot be used with option '--user <name>'/)
  t.regex((await asked('--merge', 'a', '--admin')).stderr, /cannot be used with/)
  t.regex((await asked('--group', 'dev')).stderr, /^Error: --group says in which groups a --user is\n/)
  t.regex((await asked('--ttl', '1h')).stderr, /^Error: --ttl says how long credentials hold\nHint: Add --admin/)
  t.regex((await asked('--merge', 'a', '--ttl', '1h')).stderr, /'--merge <file>' cannot be used with option '--ttl/)
  for (const words of ['-o', '-o --force', '--merge'])
    t.regex(
      (await asked(...words.replace(/^\S+/, '$& /dev/null').split(' '))).stderr,
      /^Error: \/dev\/null is there, and is no regular file\n/,
    )
  t.notRegex((await asked('--help')).stdout, /default: \[/)
  t.regex((await asked('--admin', '--ttl', '5s')).stderr, /a duration such as 8h, and a minute at least/)
  writeFileSync(join(bench.folder, 'kubeconfig'), 'mine')
  t.regex((await asked('--admin')).stderr, /^Error: kubeconfig is there already\nHint: .*--force/)
  const merging = await asked('--merge', 'kubeconfig', '-o', './kubeconfig')
  t.regex(merging.stderr, /^Error: no administrator's kubeconfig/, 'the same file is free to be written')
  const none = await asked('--admin', '-o', '-')
  t.is(none.code, 1)
  t.is(none.stdout, '')
  t.regex(none.stderr, /^Error: no administrator's kubeconfig was found on m1\n/)
  t.is(readFileSync(join(bench.folder, 'kubeconfig'), 'utf8'), 'mine')
})
