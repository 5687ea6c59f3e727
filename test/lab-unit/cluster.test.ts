// When the lab calls its cluster well.
import test from 'ava'
import { readConfiguration } from '../../lib/encryption/configuration.ts'
import { judgeCluster } from '../../lib/lab/cluster/cluster.ts'
import { encryptionConfiguration, encryptionFlags, encryptionLines } from '../../lib/lab/cluster/encryption.ts'
import { encryptions, members, shapeOf } from '../../lib/lab/shape.ts'

const shape = shapeOf({ name: 'test', masters: 1, nodes: 1 }, '10.201.7.0/24')
const booted = Date.parse('2030-01-01T10:00:00Z')
const bootTimes = new Map(members(shape).map(({ name }) => [name, booted]))
const later = '2030-01-01T10:00:30Z'
const earlier = '2030-01-01T09:59:30Z'

const node = (name: string, { status = 'True', lastHeartbeatTime = later } = {}) => ({
  metadata: { name },
  status: { conditions: [{ type: 'Ready', status, lastHeartbeatTime }] },
})

interface PodOptions {
  ready?: string
  startedAt?: string
  nodeName?: string
  deletionTimestamp?: string
  namespace?: string
}

const pod = (
  app: string,
  { ready = 'True', startedAt = later, nodeName = 'n1', deletionTimestamp, namespace = 'canary' }: PodOptions = {},
) => ({
  metadata: { name: `${app}-x`, namespace, labels: { app }, deletionTimestamp },
  spec: { nodeName },
  status: {
    phase: 'Running',
    conditions: [{ type: 'Ready', status: ready }],
    containerStatuses: [{ ready: true, state: { running: { startedAt } } }],
  },
})

const nodes = [node('m1'), node('n1')]
const pods = [
  pod('web'),
  pod('service-caller'),
  pod('token-caller'),
  pod('legacy-token-caller', { namespace: 'canary-legacy' }),
]

test.serial('a cluster whose nodes and pods have reported since they booted is well', t => {
  t.deepEqual(judgeCluster(shape, nodes, pods, bootTimes), [])
})

test.serial('what the API remembers from before a boot does not count', t => {
  t.deepEqual(judgeCluster(shape, [node('m1'), node('n1', { lastHeartbeatTime: earlier })], pods, bootTimes), [
    'n1 not Ready',
  ])
  const [complaint] = judgeCluster(shape, nodes, [...pods, pod('coredns', { startedAt: earlier })], bootTimes)
  t.is(complaint, '1 of 5 pods not ready: coredns-x on n1')
})

test.serial('the pods of a machine that is down are not ready, whatever the API says', t => {
  const complaints = judgeCluster(shape, nodes, pods, new Map([['m1', booted]]))
  t.is(complaints[0], 'n1 not Ready')
  t.regex(complaints[1]!, /^4 of 4 pods not ready/)
})

test.serial('a node that never joined, and a canary without a pod, are missed', t => {
  t.deepEqual(judgeCluster(shape, [node('m1')], pods.slice(1), bootTimes), ['n1 not Ready', 'no pod of web'])
})

test.serial('a pod that is being deleted is nobody’s concern, unless it was the last of its kind', t => {
  const leaving = pod('web', { ready: 'False', deletionTimestamp: later })
  t.deepEqual(judgeCluster(shape, nodes, [...pods, leaving], bootTimes), [])
  t.deepEqual(judgeCluster(shape, nodes, [...pods.slice(1), leaving], bootTimes), ['no pod of web'])
})

test.serial('nodes are known by what their machines call themselves', t => {
  const other = shapeOf({ name: 'test', masters: 1, nodes: 1, nodeNames: 'other' }, '10.201.7.0/24')
  const names = members(other).map(({ hostname }) => hostname)
  const there = pods.map(one => ({ ...one, spec: { nodeName: names[1]! } }))
  const times = new Map(names.map(name => [name, booted]))
  t.deepEqual(
    judgeCluster(
      other,
      names.map(name => node(name)),
      there,
      times,
    ),
    [],
  )
  t.regex(judgeCluster(other, nodes, there, times)[0]!, /^m1, n1 not Ready$/)
})

test.serial('what a lab was filled with does not make it unwell', t => {
  t.deepEqual(
    judgeCluster(shape, nodes, [...pods, pod('nightly', { ready: 'False', namespace: 'batch' })], bootTimes),
    [],
  )
})

test.serial('a pod that is not ready is named with its machine', t => {
  t.deepEqual(judgeCluster(shape, nodes, [...pods, pod('coredns', { ready: 'False' })], bootTimes), [
    '1 of 5 pods not ready: coredns-x on n1',
  ])
})

test.serial('each kind is a file that an API server takes, with a key of its own each time', t => {
  for (const encryption of encryptions) {
    const text = encryptionConfiguration({ encryption })
    t.is(text === undefined, encryption === 'none')
    if (text === undefined) continue
    const { rules, doubts } = readConfiguration(text, 'f')
    t.is(rules[0]?.providers[0]?.kind as string | undefined, encryption.replace(/-.*/, ''))
    t.deepEqual(doubts, [])
    if (/^(aescbc|secretbox)$/.test(encryption)) t.not(encryptionConfiguration({ encryption }), text)
  }
})

test.serial('API servers are told of the file, and to take up changes of it where they are to', t => {
  const told = (encryption: 'none' | 'aescbc', encryptionReload: 'on' | 'off') =>
    encryptionFlags({ encryption, encryptionReload }, '/f').map(({ name, value }) => `${name}=${value}`)
  const file = 'encryption-provider-config=/f'
  t.deepEqual(told('none', 'on'), [])
  t.deepEqual(told('aescbc', 'off'), [file])
  t.deepEqual(told('aescbc', 'on'), [file, 'encryption-provider-config-automatic-reload=true'])
  t.is(encryptionLines({ encryption: 'aescbc', encryptionReload: 'off' }, '/f'), `  --${file} \\\n`)
})
