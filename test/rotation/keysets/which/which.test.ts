// Which keysets a run goes over: those that were named, or all that can be rotated on this cluster; and which of them stand as a stage needs it.
import test from 'ava'
import type { RekeyError } from '../../../../lib/errors.ts'
import { authorityKeys } from '../../../../lib/kubernetes/layout/authorities.ts'
import type { ComponentName, FoundComponent } from '../../../../lib/kubernetes/layout/host-layout.ts'
import { planStep, readingStep } from '../../../../lib/rotation/given/found.ts'
import { lookStep } from '../../../../lib/rotation/keysets/state.ts'
import { chosenAuthorities, chosenKeysets } from '../../../../lib/rotation/keysets/which/chosen.ts'
import { chosenOf, sharedRoles } from '../../../../lib/rotation/keysets/which/plan.ts'
import { requireComing, requireFormer } from '../../../../lib/rotation/keysets/which/standing.ts'
import { issue } from '../../../pki/certificates/_certificates.ts'

type HowItRuns = FoundComponent['runs']

const names: ComponentName[] = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'etcd']
const everyRole = { kubernetes: 'pem', etcd: 'pem', 'front-proxy': 'pem' }

/** A step's context on a cluster with one master, whose components all run like this, but for some. */
function onMaster(
  runs: HowItRuns,
  keysets: unknown,
  said: string[] = [],
  others: Partial<Record<ComponentName, HowItRuns>> = {},
) {
  const found = (component: ComponentName): FoundComponent =>
    ({ component, runs: others[component] ?? runs, flags: {}, files: [] }) as unknown as FoundComponent
  const components = Object.fromEntries(names.map(name => [name, found(name)]))
  const master = { name: 'm1', groups: ['masters', 'etcd'] }
  return {
    vars: { keysets },
    hosts: () => [master],
    host: master,
    registered: (step: string) =>
      step === readingStep ? { host: 'm1', layout: { host: 'm1', components } } : undefined,
    log: (line: string) => said.push(line),
  } as never
}

const staticPod: HowItRuns = { kind: 'static-pod', manifest: '/m.yaml' } as HowItRuns
const unit: HowItRuns = { kind: 'unit', unit: 'x.service' } as HowItRuns

test('all are those that the cluster has and that can be rotated there; the others are told, each with the reason', t => {
  t.deepEqual(chosenOf(onMaster(staticPod, 'all'), everyRole, []), {
    keysets: ['kubernetes-ca', 'etcd-ca', 'front-proxy-ca', 'service-account'],
    leftOut: [],
  })
  const said: string[] = []
  const { keysets, leftOut } = chosenOf(
    onMaster(staticPod, 'all', said, { etcd: unit }),
    { kubernetes: 'pem', etcd: 'pem' },
    [],
  )
  t.deepEqual(keysets, ['kubernetes-ca', 'service-account'])
  t.deepEqual(
    leftOut.map(({ keyset }) => keyset),
    ['etcd-ca', 'front-proxy-ca'],
  )
  t.deepEqual(
    said.map(line => line.slice(0, 52)),
    [
      'left out: etcd-ca can be rotated gracefully where API',
      'left out: front-proxy-ca: the cluster has no front-pr',
    ].map(line => line.slice(0, 52)),
  )
})

test('where all of a master is units, all go, those that have one CA together', t => {
  for (const part of names)
    for (const runs of [{ kind: 'pod' } as HowItRuns, staticPod]) {
      const mixed = onMaster(unit, ['kubernetes-ca'], [], { [part]: runs })
      t.throws(() => chosenOf(mixed, everyRole, []), { code: 'keysets.layout' }, `${part}: ${runs.kind}`)
    }
  t.deepEqual(chosenOf(onMaster(unit, 'all'), everyRole, []).leftOut, [])
  const [both, one] = [{ kubernetes: 'pem', etcd: 'pem' }, [['kubernetes', 'etcd'] as const]]
  t.deepEqual(chosenOf(onMaster(unit, 'all'), both, one).keysets, ['kubernetes-ca', 'etcd-ca', 'service-account'])
  const error = t.throws<RekeyError>(() => chosenOf(onMaster(unit, ['etcd-ca']), both, one))
  t.is(error?.code, 'keysets.shared')
  t.regex(error?.hint ?? '', /-e keysets=kubernetes-ca,etcd-ca;/)
})

test('masters of units beside one of static pods are refused', t => {
  type Context = { registered: (step: string) => unknown; hosts: () => object[] }
  const [units, pods] = [unit, staticPod].map(runs => onMaster(runs, ['kubernetes-ca']) as Context)
  const both = (second: Context | undefined) =>
    ({
      ...units,
      hosts: () => ['m1', 'm2'].map(name => ({ ...units?.hosts()[0], name })),
      registered: (step: string, host: string) => (host === 'm2' ? second : units)?.registered(step),
    }) as never
  t.deepEqual(chosenOf(both(units), everyRole, []).keysets, ['kubernetes-ca'])
  t.throws(() => chosenOf(both(pods), everyRole, []), { code: 'keysets.layout', message: /not as on m1$/ })
})

test('one that was named and can’t be rotated is refused', t => {
  t.throws(() => chosenOf(onMaster(staticPod, ['etcd-ca', 'service-account'], [], { etcd: unit }), everyRole, []), {
    code: 'keysets.layout',
  })
  t.throws(() => chosenOf(onMaster(staticPod, ['front-proxy-ca']), { kubernetes: 'pem' }, []), { code: 'keysets.none' })
  t.throws(() => chosenOf(onMaster({ kind: 'pod' } as HowItRuns, 'all'), {}, []), { code: 'keysets.none' })
})

test('roles whose files hold one key have one CA between them: they go together, or none of them', async t => {
  const [one, other] = await Promise.all(['one', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const keys = authorityKeys({ kubernetes: one!.pem, etcd: other!.pem + one!.pem, 'front-proxy': other!.pem })
  t.deepEqual(sharedRoles({ pki_authorities: 'three' }, [], keys), [['kubernetes', 'etcd', 'front-proxy']])
  const two = authorityKeys({ kubernetes: one!.pem, etcd: one!.pem, 'front-proxy': other!.pem })
  const shared = sharedRoles({ pki_authorities: 'three' }, [], two)
  t.deepEqual(shared, [['kubernetes', 'etcd']])
  t.deepEqual(sharedRoles({ pki_authorities: 'one' }, [], two), [['kubernetes', 'etcd', 'front-proxy']])

  const error = t.throws<RekeyError>(() => chosenOf(onMaster(staticPod, ['etcd-ca']), everyRole, shared))
  t.is(error?.code, 'keysets.shared')
  t.regex(error?.message ?? '', /one CA serves kubernetes-ca, etcd-ca/)
  t.notThrows(() => chosenOf(onMaster(staticPod, ['etcd-ca', 'kubernetes-ca']), everyRole, shared))
  // Where one of them can't be rotated, the others can't either.
  const others = onMaster(staticPod, 'all', [], { etcd: unit })
  t.deepEqual(chosenOf(others, everyRole, [['kubernetes', 'etcd']]).keysets, ['front-proxy-ca', 'service-account'])
})

test('a run is about what was planned; before that, and of an earlier version’s run, about what was asked for', t => {
  const registered = (value?: unknown) => (<T>(step: string) => (step === planStep ? value : undefined) as T) as never
  const vars = { keysets: 'all' as const }
  t.deepEqual(chosenKeysets({ vars, registered: registered({ keysets: ['etcd-ca'] }) }), ['etcd-ca'])
  t.deepEqual(chosenAuthorities({ vars, registered: registered() }), ['kubernetes', 'etcd', 'front-proxy'])
  t.deepEqual(chosenKeysets({ vars: { keysets: ['etcd-ca'] }, registered: registered({ specs: [] }) }), ['etcd-ca'])
})

test('a stage of all keysets that some don’t stand for says which it can go over', t => {
  const keyset = (name: string, ...states: string[]) => ({
    name,
    items: states.map(state => ({ id: state, key: state, state, kept: true })),
  })
  const states = [keyset('service-account', 'primary', 'trusted'), keyset('etcd-ca', 'primary', 'distrusted')]
  const ctx = (keysets: unknown) =>
    ({ vars: { keysets }, registered: (step: string) => (step === lookStep ? states : undefined) }) as never
  for (const requires of [requireFormer, requireComing]) {
    const error = t.throws<RekeyError>(() => requires(ctx('all')))
    t.regex(error?.message ?? '', /^etcd-ca /)
    t.regex(error?.hint ?? '', /-e keysets=service-account\.$/)
    t.notRegex(t.throws<RekeyError>(() => requires(ctx(['etcd-ca'])))?.hint ?? '', /-e keysets/)
  }
})
