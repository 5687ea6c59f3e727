// What a kubelet has in memory of the files that it writes itself: its kubeconfig as it joins, and certificates that it makes anew.
import { utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { hasWrittenItself, kubeletPresents } from '../../../lib/kubernetes/components/kubelet.ts'
import type { HostLayout } from '../../../lib/kubernetes/layout/host-layout.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { localSession } from '../_local.ts'
import { found, unit } from './_host.ts'

/** A kubelet's folder whose files were written at these times, and its layout. */
function kubeletIn(times: Readonly<Record<string, number>>, more: Readonly<Record<string, readonly string[]>> = {}) {
  const folder = temporaryFolder('kubelet')
  for (const [name, at] of Object.entries(times)) {
    writeFileSync(join(folder, name), '')
    utimesSync(join(folder, name), at, at)
  }
  const current = join(folder, 'kubelet-client-current.pem')
  const layoutWith = (client: string): HostLayout => ({
    host: 'n1',
    components: {
      kubelet: found({
        component: 'kubelet',
        runs: unit('kubelet'),
        flags: { 'bootstrap-kubeconfig': ['/etc/kubernetes/bootstrap-kubelet.conf'], 'cert-dir': [folder], ...more },
        files: [{ role: 'client', by: 'client-certificate', path: client, real: client }],
      }),
    },
  })
  return { kubeconfig: join(folder, 'kubelet.conf'), layout: layoutWith(current), layoutWith, folder }
}

const [first, second] = ['kubelet-client-2026-11-30-17-44-20.pem', 'kubelet-client-2027-08-30-11-00-00.pem']

test('a kubelet that has joined wrote its kubeconfig itself, before its first certificate; whatever was written since is another one’s', async t => {
  const session = await localSession()
  const asked = ({ layout, kubeconfig }: ReturnType<typeof kubeletIn>, started = [100]) =>
    hasWrittenItself(session, layout, kubeconfig, started)
  t.true(await asked(kubeletIn({ 'kubelet.conf': 100.5, [first]: 100.7 })))
  t.true(await asked(kubeletIn({ 'kubelet.conf': 100.5, [first]: 100.7, [second]: 9_000 })), 'it has another one since')
  t.false(await asked(kubeletIn({ 'kubelet.conf': 500, [first]: 100.7 })), 'a stage has written it')
  t.false(await asked(kubeletIn({ 'kubelet.conf': 500, [first]: 100.7, [second]: 9_000 })), 'a stage, before that one')
  t.false(await asked(kubeletIn({ 'kubelet.conf': 500, [first]: 20 })), 'it had joined before it was started')
  t.false(
    await asked(kubeletIn({ 'kubelet.conf': 100.5, [first]: 100.7 }), [300]),
    'put back, for a process that never saw it',
  )
  t.false(await asked(kubeletIn({ 'kubelet.conf': 100.5 })), 'it has none')
  t.false(await asked(kubeletIn({ 'kubelet.conf': 100.5, [first]: 100.7 }), []), 'it does not run')
  t.false(await asked(kubeletIn({ [first]: 100.7 })), 'it is not there')
})

test('a kubelet that is told a certificate of somebody else’s, or never joins, has written nothing', async t => {
  const session = await localSession()
  const times = { 'kubelet.conf': 100.5, [first]: 100.7 }
  const { layoutWith, kubeconfig, folder } = kubeletIn(times)
  t.false(await hasWrittenItself(session, layoutWith(join(folder, 'node.pem')), kubeconfig, [100]))
  const apart = kubeletIn(times, { 'bootstrap-kubeconfig': [] })
  t.false(await hasWrittenItself(session, apart.layout, apart.kubeconfig, [100]))
})

test('what a kubelet presents is told by when that ends, in its own metrics', async t => {
  const session = await localSession()
  const end = new Date(Date.now() + 3_600_000)
  const presents = (said: string) =>
    kubeletPresents({ getText: async () => `# TYPE x gauge\n${said}\nother 1\n` } as never, session, 'n1', end)
  const metric = 'kubelet_certificate_manager_client_ttl_seconds'
  t.true(await presents(`${metric} ${Math.trunc((end.getTime() - Date.now()) / 1_000)}`))
  t.false(await presents(`${metric} ${(3_600 - 60).toExponential()}`), 'another one, that ends a minute sooner')
  t.false(await presents(`${metric} 3.1535513e+07`))
  t.false(await presents(`${metric} +Inf`))
  t.false(await presents(''), 'it makes none anew itself')
})
