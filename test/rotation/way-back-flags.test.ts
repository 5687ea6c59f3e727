// The flags of controllers on the way back: the very files of before, read again by whoever starts them.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { RekeyError } from '../../lib/errors.ts'
import { withoutLinks } from '../../lib/kubernetes/components/kept.ts'
import { flagsOfWords } from '../../lib/kubernetes/layout/flags.ts'
import { backUpFiles } from '../../lib/operations/backup.ts'
import { changedAfterSwap, restoreFiles } from '../../lib/operations/restore.ts'
import type { StepContext } from '../../lib/playbook/model.ts'
import { restart } from '../../lib/rotation/index.ts'
import { found, localHost, unit } from '../kubernetes/components/_host.ts'

test('a controller-manager told by its environment is told what it was, and started with that', async t => {
  const { session, folder } = await localHost(t)
  const environment = join(folder, 'kcm.env')
  const ofOneKind = '--cluster-signing-kubelet-serving-cert-file=/a --cluster-signing-kubelet-serving-key-file=/b'
  const before = `ARGS="--cluster-signing-cert-file=/a --cluster-signing-key-file=/b ${ofOneKind} --v=2"\n`
  writeFileSync(environment, before)
  writeFileSync(join(folder, 'unit'), '[Service]\nExecStart=/usr/bin/kube-controller-manager $ARGS\n')
  const manager = found({
    component: 'kube-controller-manager',
    runs: unit('kube-controller-manager', { environmentFiles: [environment] }),
    flags: flagsOfWords(before.split('"')[1]!.split(' ')),
  })
  const ctx = {
    ...session,
    run: 'r1',
    vars: { backup_directory: join(folder, 'backups'), controller_manager_signs: false },
    registered: (step: string) =>
      step === 'read-the-certificates'
        ? { layout: { host: 'm1', components: { 'kube-controller-manager': manager } } }
        : { specs: [] },
  } as unknown as StepContext<{ backup_directory: string; controller_manager_signs: boolean }>
  await backUpFiles(ctx, join(folder, 'backups/r1/host.tgz'), [environment])
  await restart.controllers.run(ctx)
  // Whatever it was told to sign with is not on its host any more: it would not start.
  t.is(readFileSync(environment, 'utf8').replace(/ +/g, ' '), 'ARGS=" --v=2"\n')
  const killed = await restart.controllersAsTheyWere.run(ctx)
  t.is(readFileSync(environment, 'utf8'), before)
  t.like(killed, { 'kube-controller-manager': { length: 1 } })
  const told = [
    'daemon-reload',
    'reset-failed kube-controller-manager.service',
    'restart --no-block kube-controller-manager.service',
  ]
  t.deepEqual(readFileSync(join(folder, 'told'), 'utf8').trim().split('\n'), [...told, ...told])
})

test('what is named through a folder that is a link is put back where it lies, whatever the archive has of the link', async t => {
  const { session, folder } = await localHost(t)
  for (const name of ['ssl', 'backups']) mkdirSync(join(folder, name))
  symlinkSync(join(folder, 'ssl'), join(folder, 'pki'))
  const [named, real, saved] = [join(folder, 'pki/ca.crt'), join(folder, 'ssl/ca.crt'), join(folder, 'backups/a.tgz')]
  writeFileSync(real, 'old')
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
  const swap = { rename: [named], link: [], remove: [], hashes: { [named]: sha256('new') } }
  for (const kept of [await withoutLinks(session, [named]), [join(folder, 'pki'), join(folder, 'ssl')]]) {
    await backUpFiles(session, saved, kept)
    writeFileSync(real, 'new')
    t.deepEqual(await changedAfterSwap(session, swap, saved), [])
    await restoreFiles(session, 'r1', saved, [named, real])
    t.is(readFileSync(real, 'utf8'), 'old')
    t.deepEqual(await changedAfterSwap(session, swap, saved), [], 'what was put back already was changed by nobody')
  }
})

test('a link that led elsewhere when the archive was made is refused before anything is done', async t => {
  const { session, folder } = await localHost(t)
  for (const name of ['ssl', 'backups']) mkdirSync(join(folder, name))
  const [link, saved] = [join(folder, 'pki'), join(folder, 'backups/a.tgz')]
  symlinkSync(join(folder, 'ssl'), link)
  await backUpFiles(session, saved, [link])
  rmSync(link)
  mkdirSync(link)
  writeFileSync(join(link, 'ca.crt'), 'new')
  const error = await t.throwsAsync<RekeyError>(() => restoreFiles(session, 'r1', saved, [join(link, 'ca.crt')]))
  t.regex(error?.message ?? '', /pki is a link there/)
  t.is(readFileSync(join(link, 'ca.crt'), 'utf8'), 'new')
})
