// What a cluster is waited for at the end of a run: its own, but for nodes that were away before.
import test from 'ava'
import { waitedFor } from '../../../lib/rotation/rescue/well.ts'

test('a node that was accepted as away is waited for by nobody, nor is what runs on it', t => {
  const ctx = (absent: readonly string[]) => ({
    ...{ host: { name: 'm1' }, hosts: () => [{ name: 'm1' }, { name: 'n7' }] },
    registered: (step: string, host: string) =>
      step === 'check-the-nodes'
        ? { absent, workloads: {}, told: [] }
        : { nodeName: host, layout: { components: { kubelet: {} } } },
  })
  const finding = (what: string, where: string) => ({ what, where, state: 'not well' as const, detail: '' })
  const bad = [finding('node', 'n7'), finding('kubelet', 'n7'), finding('node', 'm1'), finding('API server', 'm1')]
  const waited = (absent: readonly string[]) =>
    bad.filter(waitedFor(ctx(absent) as never)).map(({ what, where }) => `${what} ${where}`)
  t.deepEqual(waited([]), ['node n7', 'kubelet n7', 'node m1', 'API server m1'])
  t.deepEqual(waited(['n7']), ['node m1', 'API server m1'])
})
