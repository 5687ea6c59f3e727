// Files in the folder of CAs that a machine trusts: what becomes of them in each stage. Of two in one file, Debian's programs would find none.
import test from 'ava'
import { publicKeyOf } from '../../../lib/pki/certificates/bundle-text.ts'
import { readingStep } from '../../../lib/rotation/given/found.ts'
import { lookStep } from '../../../lib/rotation/keysets/state.ts'
import { changesOf } from '../../../lib/rotation/keysets/trust/anchors.ts'
import { issue } from '../../pki/certificates/_certificates.ts'

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
