// The disks of a finished lab, kept in the cache, so that the next one of the same shape need not be made again.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ownFile } from '../package.ts'
import { layoutOf } from './cluster/layouts/index.ts'
import { command } from './command.ts'
import { cacheFolder, labFolder, privateFolder, writeWhole } from './folders.ts'
import { freeze } from './machines/cgroups.ts'
import { copyOffEtcdDisk, hasEtcdDisk } from './machines/etcd-disk.ts'
import { leaderOf, machineFolder, type Parts } from './machines/machine.ts'
import { type Shape, usualTraits } from './shape.ts'

const snapshotsFolder = () => join(cacheFolder(), 'snapshots')

/** kubeadm's certificates hold for a year: a snapshot must leave most of it to whoever uses it. */
const usableDays = 200

/** The sources that decide what a finished lab has on its disks. */
const sources = [
  ...['shape.ts', 'machines/disks.ts', 'machines/keys.ts'],
  ...['cluster.ts', 'encryption.ts', 'plugins.ts', 'vault.ts', 'canaries.ts'].map(file => `cluster/${file}`),
  ...['canaries.yaml', 'service-routes.yaml'].map(file => `cluster/manifests/${file}`),
]

/** The folder of the snapshot that a lab of this shape, made of these parts, is put back to. */
export function snapshotFolder(shape: Shape, parts: Parts): string {
  const hash = createHash('sha256').update(JSON.stringify([clusterOf(shape), parts]))
  const ofLayout = layoutOf(shape).sources.map(file => `cluster/layouts/${file}`)
  for (const source of [...sources, ...ofLayout]) hash.update(readFileSync(ownFile('lib/lab', source)))
  return join(snapshotsFolder(), `${familyOf(shape)}-${hash.digest('hex').slice(0, 16)}`)
}

/** The shape without what is put on the disks afterwards, so that labs that differ in nothing else share a snapshot. */
function clusterOf(shape: Shape): Shape {
  const { login, disks } = usualTraits
  return { ...shape, login, disks, without: shape.without.filter(part => part !== 'etcdctl') }
}

/** What one snapshot is kept of: a lab's name, and what its cluster is like. */
function familyOf(shape: Shape): string {
  const { layout, etcdHosts, unitShape, nodeNames, encryption, encryptionReload, without } = clusterOf(shape)
  const traits = [
    ...(layout === usualTraits.layout ? [] : [layout]),
    ...(unitShape === usualTraits.unitShape ? [] : [unitShape]),
    ...(etcdHosts === 0 ? [] : [`etcd-${etcdHosts}`]),
    ...(nodeNames === usualTraits.nodeNames ? [] : ['other-names']),
    ...(encryption === usualTraits.encryption ? [] : [encryption]),
    ...(encryptionReload === usualTraits.encryptionReload ? [] : ['no-reload']),
    ...without.map(part => `no-${part}`),
  ]
  return [shape.name, shape.masters, shape.nodes, ...traits].join('-')
}

/** Whether a snapshot is there, whole, and young enough. */
export function isUsable(snapshot: string, now = Date.now()): boolean {
  try {
    const { made } = JSON.parse(readFileSync(join(snapshot, 'snapshot.json'), 'utf8')) as { made: string }
    const age = now - Date.parse(made)
    return age >= 0 && age < usableDays * 86_400_000
  } catch {
    return false
  }
}

const copy = async (from: string, to: string) => {
  if (existsSync(from)) await command('cp', ['-a', '--reflink=auto', from, to], { timeout: 300 })
}

/** The parts of a machine's folder that last: the rest is made anew at each boot. */
const lasting = ['upper', 'kubelet', 'etcd']

/**
 * Takes a snapshot of a running lab. Its machines stand still meanwhile, all at the same moment, so that what is
 * copied is what a power cut would leave: etcd and Vault are made to start from that.
 */
export async function takeSnapshot(shape: Shape, snapshot: string): Promise<void> {
  privateFolder(cacheFolder())
  privateFolder(snapshotsFolder())
  const building = `${snapshot}.building`
  rmSync(building, { recursive: true, force: true })
  privateFolder(building)
  await freeze(shape.name, true)
  try {
    for (const part of ['ssh', 'vault']) await copy(join(labFolder(shape.name), part), join(building, part))
    for (const machine of shape.machines) {
      const [from, to] = [machineFolder(shape.name, machine.name), join(building, 'machines', machine.name)]
      mkdirSync(to, { recursive: true })
      const ownDisk = hasEtcdDisk(shape, machine)
      for (const part of lasting) if (part !== 'etcd' || !ownDisk) await copy(join(from, part), join(to, part))
      if (ownDisk) await copyOffEtcdDisk(leaderOf(shape.name, machine.name)!, join(to, 'etcd'))
    }
  } finally {
    await freeze(shape.name, false)
  }
  writeWhole(join(building, 'snapshot.json'), JSON.stringify({ made: new Date().toISOString() }))
  // What an older version of the lab, or of what it is made of, has left.
  const family = new RegExp(`^${familyOf(shape)}-[0-9a-f]{16}(\\.building)?$`)
  for (const other of readdirSync(snapshotsFolder()))
    if (family.test(other) && join(snapshotsFolder(), other) !== building)
      rmSync(join(snapshotsFolder(), other), { recursive: true, force: true })
  renameSync(building, snapshot)
}

/** Puts the disks of a snapshot in the place of a lab's, none of whose machines may be running. */
export async function restoreSnapshot(shape: Shape, snapshot: string): Promise<void> {
  const folder = labFolder(shape.name)
  for (const part of ['machines', 'ssh', 'vault'])
    await command('rm', ['-rf', '--one-file-system', join(folder, part)], { timeout: 120 })
  for (const part of ['machines', 'ssh', 'vault']) await copy(join(snapshot, part), join(folder, part))
  // What the canaries counted was about another time.
  for (const { name } of shape.machines)
    rmSync(join(machineFolder(shape.name, name), 'upper/var/lib/rekey-canary'), { recursive: true, force: true })
}
