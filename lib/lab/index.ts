// The lab: a real cluster on machines of its own, on this machine. Everything that starts, stops and looks at one.
import { existsSync, rmSync } from 'node:fs'
import { RekeyError } from '../errors.ts'
import { ensureBinaries } from './binaries.ts'
import { createCluster, examineCluster, resetCanaries, waitUntilWell } from './cluster/cluster.ts'
import { type Expirable, expire as runOut } from './cluster/expire.ts'
import { fill as putInto } from './cluster/fill.ts'
import { makePlugins, renewPluginToken, tokenPackages } from './cluster/plugins.ts'
import { fillWithSecrets } from './cluster/secrets.ts'
import { prepareVault, startVault } from './cluster/vault.ts'
import { command, waitFor } from './command.ts'
import { labFolder, runtimeFolder } from './folders.ts'
import { ensureImages } from './images.ts'
import { inventoryPath, writeInventory } from './inventory.ts'
import { lockLab } from './lock.ts'
import { freeze, processesOf, removeLabCgroups } from './machines/cgroups.ts'
import { prepareDisk } from './machines/disks.ts'
import { ensureExtendedBase } from './machines/extended-base.ts'
import { furnish } from './machines/furnish.ts'
import { createKeys } from './machines/keys.ts'
import { raiseLimits } from './machines/limits.ts'
import { isUp, leaderOf, type Parts, startMachine, stopMachine } from './machines/machine.ts'
import { createHub, existingNamespaces, removeHub, removeNetwork, routedNetworks } from './machines/network.ts'
import { type Confirm, ensurePrerequisites } from './prerequisites.ts'
import { type Report, timed } from './progress.ts'
import { type LabRecord, labNames, readRecord, shapeOfRecord, writeRecord } from './record.ts'
import { ensureBase } from './rootfs.ts'
import {
  checkOptions,
  chooseSubnet,
  defaultOptions,
  differences,
  hasPlugin,
  type LabOptions,
  type Machine,
  type Shape,
  shapeOf,
  traitsOf,
} from './shape.ts'
import { isUsable, restoreSnapshot, snapshotFolder, takeSnapshot } from './snapshot.ts'

export { canaryResultsOf } from './cluster/canaries.ts'
export { type Expirable, expirable } from './cluster/expire.ts'
export { bundleNames, isOfStates, otherAuthority, states as labStates } from './cluster/states.ts'
export { inventoryPath } from './inventory.ts'
export { loginUser } from './machines/furnish.ts'
export { knownHostsFile, loginPassword, privateKeyFile } from './machines/keys.ts'
export { exec, fileOf, leaderOf, tryExec } from './machines/machine.ts'
export type { Progress, Report } from './progress.ts'
export { labNames } from './record.ts'
export {
  defaultOptions,
  diskLayouts,
  dispensable,
  encryptionReloads,
  encryptions,
  type LabOptions,
  layouts,
  logins,
  type Machine,
  nodeNamings,
  type Shape,
  unitShapes,
  unusual,
} from './shape.ts'

/** The programs that a lab is made of. */
const programsOf = (options: LabOptions) =>
  [
    ...(['kubernetes', 'coredns', 'vault', 'canary'] as const),
    ...(hasPlugin(options) ? (['kms'] as const) : []),
  ] as const

/** What the Debian of its machines has beside that of all others. */
const packagesOf = ({ encryption }: LabOptions) => (encryption === 'kms-hsm' ? tokenPackages : [])

/** How to bring a lab up. */
export interface UpOptions extends LabOptions {
  /** Start from the snapshot of the finished cluster, whatever was done to the lab since. */
  readonly fresh?: boolean
  /** Asked before packages are installed; without it they are. */
  readonly confirm?: Confirm
}

/**
 * Brings a lab up, and returns when its cluster, its canaries and its Vault are well: made anew when there is none,
 * from a snapshot when one of its shape was made before, or from its own disks. A lab that is up stays as it is;
 * machines of it that have died are started again; one whose making was interrupted is made anew.
 */
export async function up(
  { fresh = false, confirm = async () => true, ...options }: UpOptions,
  report: Report,
): Promise<Shape> {
  checkOptions(options)
  await ensurePrerequisites(programsOf(options), report, confirm)
  const unlock = await lockLab(options.name, 'up')
  try {
    raiseLimits(report)
    let record = readRecord(options.name)
    const others = record ? differences(record, options) : []
    if (others.length > 0)
      throw new RekeyError(
        `lab '${options.name}' has ${others.map(({ there, asked }) => `${there}, not ${asked}`).join('; ')}`,
        {
          code: 'lab.shape',
          hint: `Give the other one a name of its own (--name), or remove this one: rekey lab destroy --name ${options.name}`,
        },
      )
    if (record && !partsExist(record.parts)) record = undefined
    await freeze(options.name, false)
    if (record?.stage === 'complete' && fresh && isUsable(record.snapshot)) {
      // Its disks go first: whoever is killed in the middle of that leaves nothing to start from.
      writeRecord({ ...record, stage: 'incomplete' })
      await clear(options.name, shapeOfRecord(record), report)
      await putBack(record, report)
    } else if (record?.stage === 'complete' && !fresh) {
      await start(record, report)
    } else {
      const parts = await ensureParts(options, report)
      await clear(options.name, record && shapeOfRecord(record), report)
      const subnet = record?.subnet ?? chooseSubnet(options.name, await takenNetworks(options.name))
      const shape = shapeOf(options, subnet)
      record = {
        ...options,
        ...traitsOf(options),
        subnet,
        parts,
        stage: 'incomplete',
        snapshot: snapshotFolder(shape, parts),
      }
      if (isUsable(record.snapshot)) await putBack(record, report)
      else await create(record, report)
    }
    return shapeOfRecord(readRecord(options.name)!)
  } finally {
    await unlock()
  }
}

/** Puts a lab back to the snapshot of its finished cluster and starts it. Throws when there is no such lab. */
export async function restore(name: string, report: Report): Promise<Shape> {
  requireRecord(name)
  return up({ ...optionsOf(name, {}), fresh: true }, report)
}

/**
 * Makes what every lab is made of, where it is not in the cache: its programs, its Debian, its images. The first `up` does so, too.
 * Throws a `RekeyError` where something that this takes is missing, or where it fails.
 */
export async function prepare(report: Report): Promise<void> {
  await ensurePrerequisites(programsOf(defaultOptions), report, async () => true)
  await ensureParts(defaultOptions, report)
}

const partsExist = ({ base, containerd, binaries }: Parts) =>
  [base, containerd, ...Object.values(binaries)].every(path => existsSync(path))

/** Builds what is missing. The machines' Debian mostly waits for the network, builds for the processor. */
async function ensureParts(options: LabOptions, report: Report): Promise<Parts> {
  const [usual, programs] = await Promise.all([ensureBase(report), ensureBinaries(programsOf(options), { report })])
  const more = packagesOf(options)
  const base = more.length > 0 ? await ensureExtendedBase(usual, more, report) : usual
  return { base, binaries: programs, containerd: await ensureImages(usual, programs, report) }
}

/** The networks that a new lab must keep away from: this machine's, and those of labs that are down. */
async function takenNetworks(lab: string): Promise<string[]> {
  const others = labNames().flatMap(name => (name === lab ? [] : readRecord(name)!.subnet))
  return [...(await routedNetworks()), ...others]
}

/** Puts a lab's disks back to its snapshot, and starts it. */
async function putBack(record: LabRecord, report: Report): Promise<void> {
  const shape = shapeOfRecord(record)
  writeRecord({ ...record, stage: 'incomplete' })
  await timed(report, 'Restore the snapshot', () => restoreSnapshot(shape, record.snapshot))
  for (const machine of shape.machines) await furnish(shape, machine, record.parts.base)
  writeInventory(shape)
  writeRecord({ ...record, stage: 'complete' })
  await start(record, report)
}

/** Makes a lab from nothing: disks, machines, cluster, Vault; and keeps a snapshot of it. */
async function create(record: LabRecord, report: Report): Promise<void> {
  const shape = shapeOfRecord(record)
  writeRecord({ ...record, stage: 'incomplete' })
  await createKeys(shape)
  for (const machine of shape.machines) prepareDisk(shape, machine)
  await prepareVault(shape)
  for (const machine of shape.machines) await furnish(shape, machine, record.parts.base)
  await boot(record, shape.machines, report)
  const vault = timed(report, 'Initialise Vault', () => startVault(shape))
  // API servers need what they encrypt by.
  if (hasPlugin(shape)) await vault.then(() => timed(report, 'Start the KMS plugins', () => makePlugins(shape)))
  await Promise.all([createCluster(shape, report), vault])
  await timed(report, 'Wait until the cluster is well', detail => waitUntilWell(shape, detail))
  await timed(report, 'Keep a snapshot of it', () => takeSnapshot(shape, record.snapshot))
  await resetCanaries(shape)
  writeInventory(shape)
  writeRecord({ ...record, stage: 'complete' })
}

async function boot(record: LabRecord, machines: readonly Machine[], report: Report): Promise<void> {
  const shape = shapeOfRecord(record)
  await timed(report, `Boot ${machines.map(({ name }) => name).join(', ')}`, async () => {
    await createHub(shape)
    await Promise.all(machines.map(machine => startMachine(shape, machine, record.parts)))
    await Promise.all(
      machines.map(({ name }) =>
        waitFor(`${name} to let somebody log in`, 240, async () => (await isUp(shape.name, name)) || undefined),
      ),
    )
  })
}

/** Starts what isn't running of a complete lab, and waits until it is well. */
async function start(record: LabRecord, report: Report): Promise<void> {
  const shape = shapeOfRecord(record)
  const states = await Promise.all(shape.machines.map(({ name }) => isUp(shape.name, name)))
  const down = shape.machines.filter((_, index) => !states[index])
  if (down.length > 0 && down.length < shape.machines.length)
    report({ kind: 'note', text: `These machines were down: ${down.map(({ name }) => name).join(', ')}` })
  if (down.length > 0) await boot(record, down, report)
  if (down.length === 0 && (await examineCluster(shape)).length === 0) {
    await startVault(shape)
    report({ kind: 'note', text: `Lab '${shape.name}' is up already.` })
    return
  }
  await Promise.all([
    timed(report, 'Unseal Vault', async () => {
      await startVault(shape)
      await renewPluginToken(shape)
    }),
    timed(report, 'Wait until the cluster is well', async detail => {
      try {
        await waitUntilWell(shape, detail)
        await resetCanaries(shape)
      } catch (error) {
        throw new RekeyError((error as Error).message, {
          code: 'lab.unwell',
          hint: `${(error as RekeyError).hint ?? ''}\nStart from the snapshot of the finished cluster: rekey lab up --fresh --name ${shape.name}`,
          cause: error,
        })
      }
    }),
  ])
}

/** Ends whatever of a lab is running, with or without a record of it. */
async function stop(name: string, shape: Shape | undefined, patience: number): Promise<void> {
  await freeze(name, false)
  // Without a record, the names of what exists say enough to remove it.
  const known = shape ?? shapeOf({ name, masters: 0, nodes: 0 }, '10.200.0.0/24')
  const machines = new Map(known.machines.map(machine => [machine.name, machine]))
  for (const existing of existingNamespaces(name))
    if (existing !== 'hub' && !machines.has(existing))
      machines.set(existing, { name: existing, hostname: existing, role: 'node', address: '' })
  await Promise.all([...machines.values()].map(machine => stopMachine(known, machine, { patience })))
  for (const machine of machines.values()) await removeNetwork(known, machine)
  await removeHub(known)
  await removeLabCgroups(name)
  rmSync(runtimeFolder(name), { recursive: true, force: true })
}

/** Removes what there is of a lab, so that it can be made anew. */
async function clear(name: string, shape: Shape | undefined, report: Report): Promise<void> {
  if (processesOf(name).length > 0 || existingNamespaces(name).length > 0)
    await timed(report, `End what is running of lab '${name}'`, () => stop(name, shape, 0))
  for (const part of ['machines', 'inventory', 'ssh', 'vault'])
    await command('rm', ['-rf', '--one-file-system', `${labFolder(name)}/${part}`], { timeout: 300 })
}

/**
 * Puts the cluster of a lab that is up into states of `labStates`, or into all; or gives it `secrets` Secrets, and puts it into those states alone that
 * are named. Throws a `RekeyError` when there is no such lab or state.
 */
export async function fill(name: string, states: readonly string[], report: Report, secrets?: number): Promise<void> {
  requireRoot()
  const shape = shapeOfLab(name)
  const unlock = await lockLab(name, 'fill')
  try {
    if (secrets === undefined || states.length > 0) await putInto(shape, states, report)
    if (secrets !== undefined) await fillWithSecrets(shape, secrets, report)
  } finally {
    await unlock()
  }
}

/**
 * Has certificates of a lab that is up end after `seconds`, waits until then, and starts what runs by them anew: without an API in the end.
 * Throws a `RekeyError` when there is no such lab.
 */
export async function expire(name: string, what: Expirable, seconds: number, report: Report): Promise<void> {
  requireRoot()
  const shape = shapeOfLab(name)
  const unlock = await lockLab(name, 'expire')
  try {
    await runOut(shape, what, seconds, report)
  } finally {
    await unlock()
  }
}

/** Shuts a lab's machines down and removes everything of it but its disks. Does nothing when it is down. */
export async function down(name: string, report: Report): Promise<void> {
  requireRoot()
  const unlock = await lockLab(name, 'down')
  try {
    const record = readRecord(name)
    await timed(report, `Shut down lab '${name}'`, () => stop(name, record && shapeOfRecord(record), 25))
  } finally {
    await unlock()
  }
}

/** Ends a lab and removes its disks, keys and inventory. What can be used again stays in the cache. */
export async function destroy(name: string, report: Report): Promise<void> {
  requireRoot()
  const unlock = await lockLab(name, 'destroy')
  try {
    const record = readRecord(name)
    await timed(report, `Destroy lab '${name}'`, async () => {
      await stop(name, record && shapeOfRecord(record), 0)
      await command('rm', ['-rf', '--one-file-system', labFolder(name)], { timeout: 300 })
    })
  } finally {
    await unlock()
  }
}

/** What `status` says of a lab. */
export interface LabStatus {
  readonly shape: Shape
  readonly machines: readonly (Machine & { readonly running: boolean })[]
  /** What is not well; empty when all is. */
  readonly complaints: readonly string[]
}

/** Looks at a lab and its cluster. Throws a `RekeyError` (`lab.unknown`) when there is no such lab. */
export async function status(name: string): Promise<LabStatus> {
  const record = requireRecord(name)
  requireRoot()
  const shape = shapeOfRecord(record)
  const machines = shape.machines.map(machine => ({ ...machine, running: leaderOf(name, machine.name) !== undefined }))
  const complaints = machines.filter(({ running }) => !running).map(machine => `${machine.name} is down`)
  if (record.stage === 'incomplete') complaints.push('it was never finished')
  if (complaints.length === 0) complaints.push(...(await examineCluster(shape)))
  return { shape, machines, complaints }
}

/** The record of a lab that must exist. */
function requireRecord(name: string): LabRecord {
  const record = readRecord(name)
  if (record) return record
  const names = labNames()
  throw new RekeyError(`there is no lab '${name}'`, {
    code: 'lab.unknown',
    hint: names.length ? `There is: ${names.join(', ')}` : 'Make one: rekey lab up',
  })
}

function requireRoot(): void {
  if (process.getuid?.() === 0) return
  throw new RekeyError("the lab's machines belong to root", { code: 'lab.not-root', hint: 'Run it with sudo.' })
}

/** The inventory of a lab that must exist: the path of a file. */
export function requireInventory(name: string): string {
  requireRecord(name)
  return inventoryPath(name)
}

/** A machine of a lab by its name. Throws a `RekeyError` (`lab.unknown`) when there is no such lab or machine. */
export function machineOf(name: string, host: string): Machine {
  const { machines } = shapeOfLab(name)
  const machine = machines.find(candidate => candidate.name === host)
  if (machine) return machine
  throw new RekeyError(`lab '${name}' has no machine '${host}'`, {
    code: 'lab.unknown',
    hint: `It has: ${machines.map(candidate => candidate.name).join(', ')}`,
  })
}

/** What a lab is to be like: what was asked for, else as the lab there is, else as usual. */
export function optionsOf(name: string, asked: Partial<LabOptions>): LabOptions {
  const known = readRecord(name) ?? defaultOptions
  const given = Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined))
  const { masters, nodes } = { ...known, ...given }
  return { name, masters, nodes, ...traitsOf({ ...known, ...given }) }
}

/** The record's shape of a lab that must exist. Throws a `RekeyError` (`lab.unknown`) when there is no such lab. */
export const shapeOfLab = (name: string): Shape => shapeOfRecord(requireRecord(name))
