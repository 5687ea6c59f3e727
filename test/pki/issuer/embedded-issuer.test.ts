// rekey's own CA: the issuers' contract, and what only a file has: a passphrase, a lock, an index.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { parseCertificate } from '../../../lib/pki/certificates/certificate.ts'
import { type EmbeddedIssuer, openEmbeddedIssuer } from '../../../lib/pki/issuer/embedded-issuer.ts'
import { openLifeSocket } from '../../../lib/process/life-socket.ts'
import { thisProcess } from '../../../lib/process-identity.ts'
import { issuerContract } from './_issuer-contract.ts'

const folder = mkdtempSync(join(tmpdir(), 'rekey-embedded-'))
const passphrase = 'for this test only'
/** What is made of a passphrase takes its time, on purpose; a key file opens at once. */
const key = { keyFile: join(folder, 'key') }
writeFileSync(key.keyFile, 'for this test only '.repeat(4))
let issuer: EmbeddedIssuer
test.before(async () => {
  issuer = await openEmbeddedIssuer(join(folder, 'contract'), { passphrase })
})
test.after.always(() => {
  issuer.close()
  rmSync(folder, { recursive: true, force: true })
})
issuerContract(test, () => issuer)

/** A file with a root and one certificate, closed again. */
async function written(name: string, by: Parameters<typeof openEmbeddedIssuer>[1] = key) {
  const file = join(folder, name)
  const opened = await openEmbeddedIssuer(file, by)
  await opened.ensureMount('pki', { maxLeaseTtl: '1000h' })
  const root = await opened.generateRoot('pki', { commonName: 'ca', type: 'internal', ttl: '1000h', keyType: 'ec' })
  await opened.ensureRole('pki', 'web', { allow_any_name: true, key_type: 'ec', cn_validations: ['disabled'] })
  const issued = await opened.issue('pki', 'web', { commonName: 'first', dnsNames: ['a'] })
  opened.close()
  return { file, root, issued }
}

test.serial('what was issued is in the index, also after the file was opened again', async t => {
  const { file, root, issued } = await written('index')
  const again = await openEmbeddedIssuer(file, key)
  const second = await again.issue('pki', 'web', { commonName: 'second' })
  again.close()
  const index = again.index()
  t.deepEqual(
    index.map(entry => entry.commonName),
    ['first', 'second'],
  )
  t.is(index[0]!.serialNumber, parseCertificate(issued.certificate).serialNumber)
  t.is(index[0]!.issuerId, root.issuerId)
  t.is(new Date(index[1]!.notAfter).getTime(), parseCertificate(second.certificate).notAfter.getTime())
  t.is(second.issuingCa, root.certificate)
})

test.serial('the file holds no key and no name in clear, and only its owner may read it', async t => {
  const { file } = await written('sealed')
  const text = readFileSync(file, 'utf8')
  t.notRegex(text, /PRIVATE KEY|CERTIFICATE|first/)
  t.is(statSync(file).mode & 0o777, 0o600)
})

test.serial('another passphrase, a changed byte, or another file does not open', async t => {
  const { file } = await written('guarded', { passphrase })
  await t.throwsAsync(openEmbeddedIssuer(file, { passphrase: 'another' }), {
    message: `${file}: does not open with this passphrase or key, or is damaged`,
  })
  const sealed = JSON.parse(readFileSync(file, 'utf8'))
  const bytes = Buffer.from(sealed.data, 'base64')
  bytes[10]! ^= 1
  const damaged = join(folder, 'damaged')
  writeFileSync(damaged, JSON.stringify({ ...sealed, data: bytes.toString('base64') }))
  await t.throwsAsync(openEmbeddedIssuer(damaged, { passphrase }), { message: /or is damaged/ })
  writeFileSync(damaged, 'something else')
  await t.throwsAsync(openEmbeddedIssuer(damaged, { passphrase }), { message: /is no file that rekey sealed/ })
  await t.throwsAsync(openEmbeddedIssuer(file, { keyFile: damaged }), { message: /another kind of key/ })
  await t.throwsAsync(openEmbeddedIssuer(join(folder, 'new'), { passphrase: '' }), { message: /passphrase is empty/ })
})

test.serial('a header that makes no sense is one error, and asks for no memory', async t => {
  const { file } = await written('header', { passphrase })
  const sealed = JSON.parse(readFileSync(file, 'utf8'))
  const nonsense = join(folder, 'nonsense')
  const open = async (content: unknown) => {
    writeFileSync(nonsense, JSON.stringify(content))
    return openEmbeddedIssuer(nonsense, { passphrase })
  }
  for (const cost of [3, -4, 'x', 2 ** 40, 2 ** 25, 2 ** 19, 1.5, null, 0, 2]) {
    const message = `${nonsense}: is damaged: header.cost is no power of two from 16384 to 262144`
    await t.throwsAsync(open({ ...sealed, header: { ...sealed.header, cost } }), { name: 'RekeyError', message })
  }
  for (const salt of [undefined, null, 5, '', 'short', {}]) {
    const message = `${nonsense}: is damaged: header.salt is none`
    await t.throwsAsync(open({ ...sealed, header: { ...sealed.header, salt } }), { name: 'RekeyError', message })
  }
  await t.throwsAsync(open({ ...sealed, header: { ...sealed.header, kdf: 'none' } }), {
    message: /damaged: header\.kdf/,
  })
  await t.throwsAsync(open({ ...sealed, tag: 5 }), { message: /is damaged: tag is missing/ })
  for (const content of [null, [], 5, {}, { header: null }, { header: 'x' }]) {
    await t.throwsAsync(open(content), { message: /is no file that rekey sealed/ })
  }
})

test.serial('a key file opens it as well as a passphrase does', async t => {
  const keyFile = join(folder, 'key-file')
  await t.throwsAsync(written('by-key', { keyFile }), { message: `${keyFile}: there is no key file` })
  writeFileSync(keyFile, 'short\n')
  await t.throwsAsync(written('by-key', { keyFile }), { message: /must hold 32 bytes or more/ })
  writeFileSync(keyFile, `${'0123456789abcdef'.repeat(4)}\n`)
  const { file } = await written('by-key', { keyFile })
  const again = await openEmbeddedIssuer(file, { keyFile })
  t.is(again.index().length, 1)
  again.close()
  writeFileSync(keyFile, `${'0123456789abcdeX'.repeat(4)}\n`)
  await t.throwsAsync(openEmbeddedIssuer(file, { keyFile }), { message: /does not open/ })
})

test.serial('a file that is open is not opened twice; the lock of a process that is gone is taken over', async t => {
  const { file } = await written('locked')
  const opened = await openEmbeddedIssuer(file, key)
  await t.throwsAsync(openEmbeddedIssuer(file, key), {
    message: `${file}: is in use by process ${process.pid}`,
  })
  opened.close()
  // Its number is that of a living process by now.
  writeFileSync(
    `${file}.lock`,
    JSON.stringify({ ...thisProcess(), started: 'long ago', socket: '.alive-0123456789abcdef' }),
  )
  const again = await openEmbeddedIssuer(file, key)
  t.is(again.index().length, 1)
  again.close()
  t.deepEqual(
    readdirSync(folder).filter(name => /^\.alive|locked\./.test(name)).length,
    1,
    'that of the contract alone',
  )
})

test.serial('a file that somebody in another container has is not opened; nor is one of whom nobody knows', async t => {
  const { file } = await written('elsewhere')
  const lock = `${file}.lock`
  const [boot, pids, times] = (thisProcess().scope ?? '').split(' ')
  const elsewhere = { machine: 'other', pid: 1, started: '1', scope: `${boot} ${pids}0 ${times}` }
  const socket = await openLifeSocket(folder)
  const refused = async (holder: unknown, message: RegExp) => {
    writeFileSync(lock, typeof holder === 'string' ? holder : JSON.stringify(holder))
    const before = readFileSync(lock, 'utf8')
    await t.throwsAsync(openEmbeddedIssuer(file, key), { code: 'issuer.in-use', message })
    t.is(readFileSync(lock, 'utf8'), before)
  }
  await refused({ ...elsewhere, socket: socket?.name }, /: is in use by process 1$/)
  socket?.close()
  await refused({ ...elsewhere, scope: `another-boot ${pids} ${times}` }, /may be in use by process 1 on other$/)
  await refused('2147483646\n', /may be in use by a process that its lock does not name/)
})

test.serial('a parameter that it does not know is refused, not left out', async t => {
  const { file } = await written('parameters')
  const opened = await openEmbeddedIssuer(file, key)
  const ask = (more: Record<string, string>) => opened.write('pki/issue/web', { common_name: 'x', ...more })
  await t.throwsAsync(ask({ other_sans: 'x' }), {
    message: /the parameter "other_sans" is not offered by rekey's own CA/,
  })
  await t.throwsAsync(ask({ format: 'pem_bundle' }), { message: /the format "pem_bundle" is not offered/ })
  const role = opened.ensureRole('pki', 'odd', { ext_key_usage: ['ServerAuth', 'Everything'] })
  await t.throwsAsync(role, { message: /the usage "Everything" is not known/ })
  opened.close()
})
