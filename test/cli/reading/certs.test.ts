// `rekey certs` from the command line, over files of this machine: what it tells, in which order, and its exit codes.
import 'reflect-metadata'
import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { SubjectAlternativeNameExtension } from '@peculiar/x509'
import test from 'ava'
import { issue } from '../../pki/certificates/_certificates.ts'
import { workbench } from '../_rekey.ts'

const inDays = (days: number) => new Date(Date.now() + days * 86_400_000)

/** A folder with a CA, and certificates of it that end after 10 and 400 days, and one of a CA that is nowhere. */
async function scene() {
  const bench = workbench('local', ['m1'], true)
  const folder = join(bench.folder, 'pki')
  mkdirSync(folder)
  const ca = await issue({ name: 'CN=kubernetes', ca: true, notAfter: inDays(1000) })
  const dnsNames = ['kubernetes', 'm1', 'm1.example.org'].map(value => ({ type: 'dns' as const, value }))
  const extensions = [new SubjectAlternativeNameExtension(dnsNames)]
  const soon = await issue({ name: 'CN=soon', issuer: ca, extensions, notAfter: inDays(10.5) })
  const later = await issue({ name: 'CN=later', issuer: ca, notAfter: inDays(400.5) })
  const gone = await issue({ name: 'CN=gone', ca: true })
  const orphan = await issue({ name: 'CN=orphan', issuer: gone, notAfter: inDays(500.5) })
  for (const [name, { pem, keyPem }] of Object.entries({ ca, soon, later, orphan })) {
    writeFileSync(join(folder, `${name}.pem`), pem)
    writeFileSync(join(folder, `${name}.key`), keyPem, { mode: 0o600 })
  }
  const certs = (...more: string[]) =>
    bench.rekey(['certs', '-i', bench.inventory, '--no-api', '--folder', folder, ...more])
  return { bench, folder, certs }
}

interface Row {
  readonly where: string
  readonly subject: string
  readonly dnsNames: string[]
  readonly fingerprint: string
  readonly issuerFingerprint?: string
  readonly daysLeft: number
  readonly due: boolean
  readonly problems: string[]
}

test.serial('--json has everything, what is due or wrong first, and of that what ends first; reads only', async t => {
  const { folder, certs } = await scene()
  const state = () => readdirSync(folder).map(name => [name, statSync(join(folder, name)).mtimeMs])
  const before = state()
  const { code, stdout, stderr } = await certs('--json')
  t.is(code, 2, stderr)
  const { certificates, notices } = JSON.parse(stdout) as { certificates: Row[]; notices: string[] }
  const mine = certificates.filter(({ where }) => where.startsWith(`m1:${folder}`))
  t.deepEqual(
    mine.map(({ subject, daysLeft, due, problems }) => [subject, daysLeft, due, problems]),
    [
      ['CN=soon', 10, true, []],
      ['CN=orphan', 500, false, ['was issued by "CN=gone", and that CA is nowhere']],
      ['CN=later', 400, false, []],
      ['CN=kubernetes', 999, false, []],
    ],
  )
  t.is(mine[0]!.issuerFingerprint, mine[3]!.fingerprint)
  t.deepEqual(mine[0]!.dnsNames, ['kubernetes', 'm1', 'm1.example.org'])
  t.deepEqual(notices, [])
  t.notRegex(stdout, /PRIVATE KEY/)
  t.deepEqual(state(), before)
})

test.serial('as text it has a line for each, with the names', async t => {
  const { folder, certs } = await scene()
  const { code, stdout, stderr } = await certs('--within', '30d')
  t.is(code, 2, stderr)
  const lines = stdout.split('\n').filter(line => line.includes(folder))
  t.is(lines.length, 4)
  t.regex(lines[1]!, /^✖ .* CN=orphan +was issued by "CN=gone"/)
  t.regex(lines[0]!, /^! +\d{4}-\d\d-\d\d +10 .* CN=soon for kubernetes, m1 and 1 more$/)
  t.regex(stdout, /certificates, 1 due, 1 with something that doesn't fit\n$/)
})

test.serial('it exits with 2 when something is due within the time that is asked for, and only then', async t => {
  const { certs } = await scene()
  t.is((await certs('--within', '5d')).code, 0)
  t.is((await certs('--within', '11d')).code, 2)
  const { code, stderr } = await certs('--within', 'soon')
  t.is(code, 1)
  t.regex(stderr, /It must be a time like 30d/)
})

test.serial('a host or an API that could not be asked does not pass for well', async t => {
  const { bench, folder, certs } = await scene()
  const { code, stdout, stderr } = await bench.rekey([
    'certs',
    '-i',
    bench.inventory,
    '--within',
    '1d',
    '--folder',
    folder,
  ])
  t.is(code, 2, stderr)
  t.regex(stderr, /what the API keeps is left out: /)
  t.true(stdout.includes('CN=later'))
  bench.set({ ansible_connection: 'ssh', ansible_port: 1 })
  const away = await certs('--within', '1d')
  t.is(away.code, 4, away.stderr)
  t.regex(away.stderr, /m1 is left out: /)
})

const asRoot = process.getuid?.() === 0 ? test.serial : test.skip
asRoot('a host whose commands fail is told, and does not end the others', async t => {
  const { bench, folder, certs } = await scene()
  // nobody has no shell.
  writeFileSync(
    bench.inventory,
    'all:\n  hosts:\n    m1:\n    m2:\n      ansible_user: root\n      ansible_become: true\n      ansible_become_method: su\n      ansible_become_user: nobody\n',
  )
  const { code, stdout, stderr } = await certs('--within', '1d')
  t.is(code, 2, stderr)
  t.regex(stderr, /m2 is left out: /)
  t.true(stdout.includes(`m1:${folder}/later.pem`))
})

test.serial(
  'a kubeconfig with a CA that no master trusts any more gets no tick, is named, and the exit code is 2',
  async t => {
    const { folder, certs } = await scene()
    const pki = join(folder, 'etc/kubernetes/pki')
    mkdirSync(pki, { recursive: true })
    const [old, next] = [
      await issue({ name: 'CN=kubernetes', ca: true }),
      await issue({ name: 'CN=kubernetes', ca: true }),
    ]
    const kubeconfig = (ca: string) =>
      `clusters:\n- cluster:\n    certificate-authority-data: ${Buffer.from(ca).toString('base64')}\n`
    writeFileSync(join(pki, 'ca.crt'), next.pem)
    writeFileSync(join(folder, 'admin.conf'), kubeconfig(next.pem))
    t.is((await certs('--within', '0d')).code, 0)
    writeFileSync(join(folder, 'admin.conf'), kubeconfig(old.pem))
    const { code, stdout } = await certs('--within', '0d')
    t.is(code, 2)
    const [line] = stdout.split('\n').filter(one => one.includes('/admin.conf'))
    t.regex(line!, /^✖ .*is a copy of a CA that is called like the cluster’s, and that no master has$/)
    t.regex(stdout, /, 1 of a CA that no master trusts any more\n$/)
  },
)

test.serial('what files and certificates are called moves no cursor', async t => {
  const { folder, certs } = await scene()
  const { pem } = await issue({ name: 'CN=red\u001b[31m\u009b2J' })
  writeFileSync(join(folder, 'a\u001b[2Jb.pem'), pem)
  for (const more of [[], ['--json']]) {
    const { stdout, stderr } = await certs(...more)
    t.true(stdout.includes('b.pem'))
    t.notRegex(stdout + stderr, /[\u001b\u009b]/)
  }
})
