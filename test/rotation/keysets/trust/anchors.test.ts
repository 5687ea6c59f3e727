// Files in the folder of CAs that a machine trusts: what becomes of them in each stage. Of two in one file, Debian's programs would find none.
import test from 'ava'
import type { RekeyError } from '../../../../lib/errors.ts'
import type { Swap } from '../../../../lib/operations/staging.ts'
import { publicKeyOf } from '../../../../lib/pki/certificates/bundle-text.ts'
import { readingStep } from '../../../../lib/rotation/given/found.ts'
import { lookStep } from '../../../../lib/rotation/keysets/state.ts'
import { anchored, changesOf } from '../../../../lib/rotation/keysets/trust/anchors.ts'
import { issue } from '../../../pki/certificates/_certificates.ts'

test('the new CA gets a file beside the old one’s; the one that stays alone has the name that others know', async t => {
  const [old, next, other] = await Promise.all(
    ['old', 'next', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })),
  )
  const keyOf = ({ pem }: { pem: string }) => publicKeyOf(pem) ?? ''
  const folder = '/usr/local/share/ca-certificates'
  const path = `${folder}/etcd-ca.crt`
  const beside = (one: { pem: string }) => `${folder}/etcd-ca-${keyOf(one).slice(0, 8)}.crt`
  const context = (files: Record<string, string>) => {
    const certificates = { ...files, [`${folder}/company.crt`]: other!.pem, '/etc/etcd/ca.pem': old!.pem }
    const items = [old!, next!].map(one => ({ key: keyOf(one), certificate: one.pem }))
    return {
      host: { name: 'm1' },
      registered: (step: string) =>
        step === lookStep ? [{ authority: 'etcd', items }] : step === readingStep ? { certificates } : undefined,
    } as never
  }
  const changed = (files: Record<string, string>, ...wanted: { pem: string }[]) => {
    const { written, gone } = changesOf(context(files), () => wanted.map(({ pem }) => ({ certificate: pem })))
    return [Object.fromEntries(written.map(one => [one.path, one.pem])), gone]
  }
  t.deepEqual(changed({ [path]: old!.pem }, old!, next!), [{ [beside(next!)]: next!.pem }, []])
  t.deepEqual(changed({ [path]: old!.pem, [beside(next!)]: next!.pem }, old!, next!), [{}, []])
  t.deepEqual(changed({ [path]: old!.pem, [beside(next!)]: next!.pem }, next!), [
    { [path]: next!.pem },
    [beside(next!)],
  ])
  t.deepEqual(changed({ [path]: next!.pem }, next!, old!), [{ [beside(old!)]: old!.pem }, []])
  t.deepEqual(changed({}, old!, next!), [{}, []], 'nobody else is to trust them')
})

test('a CA that was staged and never put in place goes with the way back, before the machine takes what is in its folder; what somebody changed since is left', async t => {
  const [old, next] = await Promise.all(['old', 'next'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const path = '/usr/local/share/ca-certificates/etcd-ca.crt'
  const items = [old!, next!].map(({ pem }) => ({ key: publicKeyOf(pem) ?? '', certificate: pem }))
  const ran: string[] = []
  let changed = ''
  const run = (text: string) => {
    ran.push(text)
    const stdout = text.includes('hash()') ? changed : ''
    return Promise.resolve({ stdout, stderr: '', exitCode: 0 })
  }
  const $ = (first: object, ...given: unknown[]) =>
    'raw' in first
      ? run(String.raw(first as TemplateStringsArray, ...given))
      : (strings: TemplateStringsArray, ...values: unknown[]) => run(String.raw(strings, ...values))
  const ctx = {
    ...{ $, host: { name: 'm1' }, run: 'run-1', vars: { backup_directory: '/b' }, log: () => {} },
    files: { write: async () => {}, announce: async () => {} },
    registered: (step: string) =>
      step === lookStep
        ? [{ authority: 'etcd', items }]
        : step === readingStep
          ? { certificates: { [path]: old!.pem } }
          : undefined,
  } as never
  const step = anchored<never>('anchors', (_, __, held) => [
    ...held.map(certificate => ({ certificate })),
    { certificate: next!.pem },
  ])
  const beside = `etcd-ca-${items[1]!.key.slice(0, 8)}.crt`
  const swap = (await step.run(ctx)) as Swap
  t.deepEqual(Object.keys(swap.hashes ?? {}), [path.replace('etcd-ca.crt', beside)])
  ran.length = 0
  await step.rollback?.(ctx)
  const [unstaged, updated] = [`rm -f ./.rekey-run-1-${beside}`, 'update-ca-certificates'].map(text =>
    ran.findIndex(one => one.includes(text)),
  )
  t.true(unstaged! >= 0 && unstaged! < updated!, ran.join('\n'))
  changed = `${path}\n`
  const error = await t.throwsAsync<RekeyError>(async () => step.rollback?.(ctx))
  t.is(error?.code, 'rollback.changed')
})
