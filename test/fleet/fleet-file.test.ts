// fleet.yml: what stands in it, and that a mistake is told with its line.
import test from 'ava'
import { readFleet } from '../../lib/fleet/definition/fleet-file.ts'
import { planWaves } from '../../lib/fleet/definition/waves.ts'
import { clusterLines, fleetFile } from './_fleet-file.ts'

const whole = `name: production
playbook: rotate-keysets
max_parallel: 3
variables: { ca: kubernetes-ca, ttl: 1y }
windows:
  - { days: [sat, sun], from: '22:00', to: '04:00', zone: Europe/Paris }
failures: 10%
gates: [validate]
clusters:
  staging:
    inventory: inventory/one
    labels: { tier: lab, number: 1 }
    variables: { ttl: 1d }
    windows: []
  berlin: { inventory: [inventory/two, inventory/three], labels: { tier: prod } }
waves:
  - { name: lab, labels: { tier: lab }, soak: 1h, gates: [], failures: 0 }
  - { name: rest, approval: true }
`

test('all that may stand in it', t => {
  const fleet = readFleet(fleetFile(whole))
  const [staging, berlin] = fleet.clusters
  t.like(fleet, { name: 'production', playbook: 'rotate-keysets', maxParallel: 3, whenUnknown: 'resume' })
  t.deepEqual(staging?.variables, { ca: 'kubernetes-ca', ttl: '1d' })
  t.deepEqual(staging?.labels, { tier: 'lab', number: '1' })
  t.deepEqual(staging?.windows, [])
  t.deepEqual(berlin?.inventory, ['inventory/two', 'inventory/three'])
  t.deepEqual(berlin?.windows, [{ days: [6, 0], from: 22 * 60, to: 4 * 60, zone: 'Europe/Paris' }])
  const [lab, rest] = planWaves(fleet)
  t.like(lab, { name: 'lab', soak: 3_600_000, approval: false, gates: [], failures: 0 })
  t.like(rest, { name: 'rest', soak: 0, approval: true, gates: ['validate'], failures: 0 })
  t.is(lab?.clusters[0]?.why, 'tier=lab')
  t.is(rest?.clusters[0]?.why, 'all that are left')
})

/** What is wrong, and what is said of it. */
const mistakes: readonly (readonly [wrong: string, text: string, said: RegExp])[] = [
  [
    'a word that means nothing',
    whole.replace('max_parallel', 'max_paralel'),
    /fleet\.yml:3: 'max_paralel' means nothing here; did you mean 'max_parallel'\?/,
  ],
  [
    'one in a wave',
    whole.replace('approval: true', 'aproval: true'),
    /fleet\.yml:18: 'aproval' means nothing here; did you mean 'approval'\?/,
  ],
  [
    'one in a cluster',
    whole.replace('    variables:', '    variable:'),
    /fleet\.yml:13: 'variable' means nothing here; did you mean 'variables'\?/,
  ],
  [
    'an inventory that is not there',
    whole.replace('inventory/one', 'inventory/four'),
    /fleet\.yml:11: the inventory of staging is not there: \/.*\/inventory\/four/,
  ],
  [
    'a label that no cluster has',
    whole.replace('labels: { tier: lab }, soak', 'labels: { teir: lab }, soak'),
    /fleet\.yml:17: no cluster has a label 'teir'; did you mean 'tier'\?/,
  ],
  [
    'a zone that is none',
    whole.replace('Europe/Paris', 'Europe/Pairs'),
    /fleet\.yml:6: windows\.0\.zone: 'Europe\/Pairs' is no time zone/,
  ],
  ['a time that is none', whole.replace('22:00', '25:00'), /fleet\.yml:6: windows\.0\.from: '25:00' is no time/],
  ['a soak that is no time', whole.replace('1h', 'long'), /fleet\.yml:17: waves\.0\.soak: 'long' is not a duration/],
  [
    'a gate that is none',
    whole.replace('gates: [validate]', 'gates: [validation]'),
    /fleet\.yml:8: gates\.0: .*"validate"/,
  ],
  [
    'a budget that is none',
    whole.replace('failures: 10%', 'failures: some'),
    /fleet\.yml:7: failures: write a number of clusters, or a percentage/,
  ],
  ['no waves', whole.slice(0, whole.indexOf('waves:')), /fleet\.yml:1: waves: /],
  [
    'a wave that gets none',
    whole.replace('labels: { tier: lab }, soak', 'labels: { tier: dev }, soak'),
    /fleet\.yml:17: no cluster is left for the wave lab/,
  ],
  [
    'a wave of nobody',
    whole.replace('approval: true', 'percent: 0.0%'),
    /fleet\.yml:18: waves\.1\.percent: a wave of 0% has nobody/,
  ],
  [
    'a name that a wave before has taken',
    whole.replace('name: rest,', 'name: rest, clusters: [berlin, staging],'),
    /fleet\.yml:18: the wave rest names staging, which is in the wave lab already/,
  ],
  [
    'a worker that is lost at once',
    whole.replace('max_parallel: 3', 'heartbeat: 9s'),
    /fleet\.yml:3: heartbeat: between 10s and 1h/,
  ],
  [
    'gates that are asked without end',
    whole.replace('max_parallel: 3', 'gates_every: 10ms'),
    /fleet\.yml:3: gates_every: not less than 1s/,
  ],
  ['no YAML', 'name: [', /fleet\.yml:\d+: this is not YAML/],
]

for (const [wrong, text, said] of mistakes)
  test(`${wrong}: told with its line`, t => {
    const error = t.throws(() => planWaves(readFleet(fleetFile(text))))
    t.regex(error?.message ?? '', said)
  })

test('who only looks at a fleet needs no inventory', t => {
  const file = fleetFile(whole.replace('inventory/one', 'inventory/four'))
  t.is(readFleet(file).clusters.length, 2)
})

test('a cluster that is in no wave is told', t => {
  const text = `name: x\nclusters:\n${clusterLines(3)}\nwaves:\n  - { name: first, count: 1 }`
  const error = t.throws(() => planWaves(readFleet(fleetFile(text))))
  t.regex(error?.message ?? '', /fleet\.yml:4: c2 is in no wave, nor are 1 more/)
})

test('waves take by count, percentage and name, each of those that are left, in the order of the file', t => {
  const tier = (index: number) => `, labels: { tier: ${index <= 10 ? 'a' : 'b'} }`
  const waves = [
    '{ name: named, clusters: [c7] }',
    '{ name: canary, labels: { tier: a }, count: 2 }',
    '{ name: tenth, percent: 10% }',
    '{ name: rest, failures: 10% }',
  ]
  const text = `name: x\nclusters:\n${clusterLines(40, tier)}\nwaves:\n${waves.map(one => `  - ${one}`).join('\n')}`
  const planned = planWaves(readFleet(fleetFile(text)))
  t.deepEqual(
    planned.slice(0, 3).map(({ clusters }) => clusters.map(({ name }) => name)),
    [['c7'], ['c1', 'c2'], ['c3', 'c4', 'c5', 'c6']],
  )
  t.deepEqual(
    planned.map(({ clusters }) => clusters[0]?.why),
    ['named', 'tier=a; 2 of 9', '10%: 4 of 37', 'all that are left'],
  )
  t.is(planned[3]?.clusters.length, 33)
  t.is(planned[3]?.failures, 3)
})

test('percentages are counted in whole numbers, half a cluster up for a wave and down for a budget', t => {
  const waves = (text: string, count: number) => {
    const file = `name: x\nclusters:\n${clusterLines(count)}\nwaves: [{ name: a, ${text} }, { name: b }]`
    return planWaves(readFleet(fleetFile(file)))
  }
  // As numbers with fractions they are a little more, or a little less.
  t.is(waves('percent: 64.4%', 250)[0]?.clusters.length, 161)
  t.is(waves('percent: 17.6%', 375)[0]?.clusters.length, 66)
  t.is(waves('percent: 0.0001%', 30)[0]?.clusters.length, 1)
  t.is(waves('count: 375, failures: 18.4%', 376)[0]?.failures, 69)
  t.is(waves('count: 9, failures: 10%', 10)[0]?.failures, 0)
})
