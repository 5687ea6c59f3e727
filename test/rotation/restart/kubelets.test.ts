// What is asked of kubelets before their pairs are made anew.
import test from 'ava'
import type { RekeyError } from '../../../lib/errors.ts'
import { conditionsStep, planStep, readingStep } from '../../../lib/rotation/given/found.ts'
import { restart } from '../../../lib/rotation/index.ts'

const pair = '/var/lib/kubelet/kubelet.crt'

/** Asks of nodes whose kubelets have these versions, and serve with a file that is made anew on those that are named. */
function asked(versions: Readonly<Record<string, string>>, planned: readonly string[], absent: readonly string[] = []) {
  const hosts = Object.keys(versions).map(name => ({ name }))
  const components = {
    kubelet: {
      ...{ component: 'kubelet', files: [{ role: 'serving', path: pair, real: pair }] },
      endpoints: [{ address: '127.0.0.1', port: 10250, role: 'serving' }],
    },
  }
  const specs = [{ id: 'kubelet', authority: 'kubernetes', hosts: planned, place: { kind: 'pair', certificate: pair } }]
  const ctx = {
    hosts: () => hosts,
    cluster: {
      nodes: async () =>
        hosts.map(({ name }) => ({
          metadata: { name },
          status: { nodeInfo: { kubeletVersion: versions[name] } },
        })),
    },
    registered: (step: string, host: string) =>
      ({
        [conditionsStep]: { absent },
        [planStep]: { specs },
        [readingStep]: { nodeName: host, layout: { host, components } },
      })[step],
  }
  return async () => restart.kubeletsReread.run(ctx as never)
}

test('a kubelet that goes on with the pair that it has read is named before one is made anew for it', async t => {
  const versions = { n1: 'v1.30.14', n2: 'v1.31.0-rc.1+vendor', n3: 'v1.9.1', n4: 'v1.34.2' }
  const all = Object.keys(versions)
  const refused = await t.throwsAsync<RekeyError>(asked(versions, all), { code: 'kubelet.version' })
  t.is(refused?.message, 'kubelets that go on with the pair that they have read: n1 (v1.30.14), n3 (v1.9.1)')
  await t.notThrowsAsync(asked(versions, ['n2', 'n4']), 'theirs are not made anew')
  await t.notThrowsAsync(asked(versions, all, ['n1', 'n3']), 'nobody looks at them')
})
