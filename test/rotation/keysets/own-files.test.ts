// Tokens that go by a CA's own key get files of their own, with the same key, and the new one to verify by; undone, all is as it was. The host is
// a folder of this machine, whose components are one unit.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { tokenFilesOfAuthorities } from '../../../lib/kubernetes/layout/authorities.ts'
import type { ComponentName, FileRole } from '../../../lib/kubernetes/layout/host-layout.ts'
import { backUpFiles } from '../../../lib/operations/backup.ts'
import { readingStep } from '../../../lib/rotation/given/found.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'
import { isBorrowed, ownFiles, ownFilesChange } from '../../../lib/rotation/keysets/tokens/own-files.ts'
import { keysIn } from '../../../lib/rotation/keysets/tokens/pem.ts'
import { found, localHost, unit } from '../../kubernetes/components/_host.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

const file = (role: FileRole, path: string, key?: string) => ({
  ...{ role, path, real: path, by: `--${role}` },
  ...(key !== undefined && { key: { path: key, real: key } }),
})

test('they get them beside the CA’s, by flags in a file of the environment; whoever has written into them since keeps them there', async t => {
  const [authority, another] = await Promise.all(['ca', 'next'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const { session, folder } = await localHost(t)
  const ssl = join(folder, 'ssl')
  mkdirSync(ssl)
  const [ca, key, environment] = [join(ssl, 'ca.pem'), join(ssl, 'ca-key.pem'), join(folder, 'apiserver.env')]
  writeFileSync(ca, authority!.pem)
  writeFileSync(key, authority!.keyPem, { mode: 0o644 })
  const flagsOf = (verify: string, sign: string) =>
    `ARGS="--service-account-key-file=${verify} --service-account-signing-key-file=${sign} --v=2"\n`
  writeFileSync(environment, flagsOf(ca, key))
  writeFileSync(
    join(folder, 'unit'),
    `[Service]\nEnvironmentFile=${environment}\nExecStart=/bin/kube-apiserver $ARGS\n`,
  )
  const components = {
    'kube-apiserver': found({
      component: 'kube-apiserver',
      runs: unit('kube-apiserver', { environmentFiles: [environment] }),
      files: [file('client-ca', ca), file('service-account-verify', ca), file('service-account-sign', key)],
    }),
    'kube-controller-manager': found({
      component: 'kube-controller-manager',
      runs: unit('kube-controller-manager', { environmentFiles: [environment] }),
      files: [file('signing', ca, key)],
    }),
  } satisfies Partial<Record<ComponentName, unknown>>
  const layout = { host: 'm1', components }
  t.deepEqual(
    tokenFilesOfAuthorities(layout).map(({ role, isLast }) => [role, isLast]),
    [
      ['service-account-verify', true],
      ['service-account-sign', false],
    ],
  )
  const [made] = keysIn(another!.pem, 'next')
  const backup_directory = join(folder, 'backups')
  await backUpFiles(session, join(backup_directory, 'run-1', 'host.tgz'), [ssl, environment])
  const host = { name: 'm1', groups: ['masters'] }
  const state = { name: 'service-account', items: [], files: {}, uses: [], unread: [] }
  const publicKey = (await import('node:crypto'))
    .createPublicKey(another!.pem)
    .export({ type: 'spki', format: 'pem' })
    .toString()
  const ctx = {
    ...session,
    ...{ host, run: 'run-1', mode: 'run', check: false, vars: { backup_directory }, log: () => {} },
    ...{ redact: () => {}, milestone: () => {} },
    registered: (step: string) =>
      step === lookStep
        ? [state]
        : step === readingStep
          ? { host: 'm1', certificates: {}, kubeconfigs: {}, layout, files: { [key]: { real: key, mode: 0o644 } } }
          : { id: made!.key.slice(0, 8), key: made!.key, publicKey },
  }
  const [own, signing] = [join(ssl, 'service-account.pub'), join(ssl, 'service-account.key')]
  t.true(await ownFiles.when?.(ctx as never))
  t.true(isBorrowed(ctx as never, ca))
  await ownFiles.run(ctx as never)
  t.is(readFileSync(environment, 'utf8'), flagsOf(own, signing))
  t.deepEqual(
    keysIn(readFileSync(own, 'utf8'), own).map(one => one.key),
    [...keysIn(authority!.pem, ca), ...keysIn(another!.pem, ca)].map(one => one.key),
  )
  t.is(readFileSync(signing, 'utf8').trim(), authority!.keyPem.trim())
  t.is(statSync(signing).mode & 0o777, 0o640)
  t.is(readFileSync(ca, 'utf8'), authority!.pem)
  t.true(ownFilesChange.files(ctx as never, 'm1').includes(environment))
  await t.notThrowsAsync(async () => ownFiles.run(ctx as never), 'done again after it was cut off')

  const back = { ...ctx, mode: 'rollback' } as never
  writeFileSync(signing, another!.keyPem)
  const error = await t.throwsAsync<RekeyError>(async () => ownFiles.rollback?.(back))
  t.is(error?.code, 'rollback.changed')
  writeFileSync(signing, authority!.keyPem)
  await ownFiles.rollback?.(back)
  t.is(readFileSync(environment, 'utf8'), flagsOf(ca, key))
  t.deepEqual(readdirSync(dirname(own)).sort(), ['ca-key.pem', 'ca.pem'])
})
