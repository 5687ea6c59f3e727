// What a lab keeps on disk about itself and its snapshot.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { type LabRecord, labNames, readRecord, shapeOfRecord, writeRecord } from '../../lib/lab/record.ts'
import { dispensable, type LabOptions, logins, shapeOf } from '../../lib/lab/shape.ts'
import { isUsable, snapshotFolder } from '../../lib/lab/snapshot.ts'
import { ownMountsMissing, withOwnMounts } from '../_mounts.ts'
import { temporaryFolder } from '../_temporary.ts'

const parts = { base: '/base', containerd: '/containerd', binaries: { kubernetes: '/k', vault: '/v' } }

test.serial('a record is read as it was written, in a folder that only its owner may look into', t => {
  const state = mkdtempSync(join(tmpdir(), 'rekey-lab-record-'))
  const before = process.env.XDG_STATE_HOME
  process.env.XDG_STATE_HOME = state
  try {
    t.is(readRecord('one'), undefined)
    const options = { name: 'one', masters: 3, nodes: 2, subnet: '10.201.7.0/24' }
    writeRecord({ ...options, parts, stage: 'incomplete', snapshot: '/nowhere' })
    t.like(readRecord('one'), { ...options, stage: 'incomplete' })
    t.deepEqual(shapeOfRecord(readRecord('one')!), shapeOf(options, options.subnet))
    t.deepEqual(labNames(), ['one'])
    t.is(statSync(join(state, 'rekey/labs/one')).mode & 0o777, 0o700)
    // Half a file, as a full disk leaves it, is no record.
    writeFileSync(join(state, 'rekey/labs/one/lab.json'), '{"name": "one", ')
    t.is(readRecord('one'), undefined)
  } finally {
    if (before === undefined) delete process.env.XDG_STATE_HOME
    else process.env.XDG_STATE_HOME = before
    rmSync(state, { recursive: true, force: true })
  }
})

test.serial('a snapshot is for one shape made of the same parts', t => {
  const shape = shapeOf({ name: 'one', masters: 3, nodes: 2 }, '10.201.7.0/24')
  t.is(snapshotFolder(shape, parts), snapshotFolder(structuredClone(shape), parts))
  for (const [otherShape, otherParts] of [
    [shapeOf({ name: 'one', masters: 3, nodes: 2 }, '10.201.8.0/24'), parts],
    [shapeOf({ name: 'one', masters: 1, nodes: 2 }, '10.201.7.0/24'), parts],
    [shape, { ...parts, base: '/other' }],
  ] as const)
    t.not(snapshotFolder(otherShape, otherParts), snapshotFolder(shape, parts))
})

test.serial(
  'labs whose clusters are alike share a snapshot, however they are entered and whatever lies on their disks',
  t => {
    const size = { name: 'one', masters: 3, nodes: 2 }
    const folder = (more: Partial<LabOptions> = {}) =>
      snapshotFolder(shapeOf({ ...size, ...more }, '10.201.7.0/24'), parts)
    for (const login of logins) t.is(folder({ login, disks: 'separate', without: ['etcdctl'] }), folder())
    const others = [
      folder({ nodeNames: 'other' }),
      folder({ encryption: 'aescbc' }),
      folder({ encryption: 'aescbc', encryptionReload: 'off' }),
      folder({ layout: 'external-etcd' }),
      folder({ layout: 'external-etcd', etcdHosts: 3 }),
      ...dispensable.filter(part => part !== 'etcdctl').map(part => folder({ without: [part] })),
    ]
    t.is(new Set([folder(), ...others]).size, others.length + 1)
    t.is(folder({ without: ['etcdctl', 'coredns'] }), folder({ without: ['coredns'] }))
  },
)

test.serial('a record of before labs had traits is read as one of a lab that has the usual ones', t => {
  const old = { name: 'one', masters: 3, nodes: 2, subnet: '10.201.7.0/24', parts, stage: 'complete', snapshot: '/x' }
  t.like(shapeOfRecord(old as LabRecord), {
    layout: 'kubeadm',
    etcdHosts: 0,
    login: 'root',
    disks: 'one',
    nodeNames: 'inventory',
    encryption: 'none',
    encryptionReload: 'on',
    without: [],
  })
})

test.serial('a snapshot is used for 200 days: its certificates have a year', t => {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-lab-snapshot-'))
  try {
    t.false(isUsable(folder), 'one that was never finished')
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'snapshot.json'), JSON.stringify({ made: '2030-01-01T00:00:00Z' }))
    t.true(isUsable(folder, Date.parse('2030-07-01T00:00:00Z')))
    t.false(isUsable(folder, Date.parse('2030-08-01T00:00:00Z')))
    t.false(
      isUsable(folder, Date.parse('2029-12-31T00:00:00Z')),
      'one from a future: its certificates are not valid yet',
    )
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

const withMounts = ownMountsMissing() ? test.skip : test.serial
withMounts('a disk that is full is told with the file that has no room on it', t => {
  const disk = temporaryFolder('lab-disk')
  const record = {
    name: 'one',
    masters: 1,
    nodes: 0,
    subnet: '10.201.7.0/24',
    parts,
    stage: 'incomplete',
    snapshot: '/',
  }
  const program = `import { writeRecord } from ${JSON.stringify(join(import.meta.dirname, '../../lib/lab/record.ts'))}
try { writeRecord(${JSON.stringify(record)}) } catch (error) { console.log(error.code + ' ' + error.message) }`
  const script = `mount -t tmpfs -o size=8k tmpfs ${disk}; head -c 100000 /dev/zero >${disk}/ballast 2>/dev/null || true; exec "$@"`
  const words = ['sh', '-ec', script, 'sh', process.execPath, '--input-type=module', '-e', program]
  const { stdout, stderr } = spawnSync(withOwnMounts[0], [...withOwnMounts.slice(1), ...words], {
    env: { ...process.env, XDG_STATE_HOME: disk },
    encoding: 'utf8',
  })
  t.regex(stdout, /^lab\.disk \S+\/rekey\/labs\/one\/lab\.json\.new can't be written: ENOSPC: /, stderr)
})
