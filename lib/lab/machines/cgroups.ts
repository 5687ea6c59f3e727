// A cgroup for each machine, in every hierarchy the kernel has mounted (v1, v2, or both), so that each machine's
// systemd and kubelet see a tree of their own. It is also how a machine's processes are found, frozen and ended.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { waitFor } from '../command.ts'

/** A mounted cgroup hierarchy. */
export interface Hierarchy {
  readonly version: 1 | 2
  readonly mountPoint: string
}

/** Reads the hierarchies out of the text of /proc/self/mountinfo. */
export function parseHierarchies(mountInfo: string): Hierarchy[] {
  const found = new Map<string, Hierarchy>()
  for (const line of mountInfo.split('\n')) {
    const [before, after] = line.split(' - ')
    const mountPoint = before?.split(' ')[4]
    const type = after?.split(' ')[0]
    if (mountPoint && (type === 'cgroup' || type === 'cgroup2'))
      found.set(mountPoint, { version: type === 'cgroup' ? 1 : 2, mountPoint })
  }
  return [...found.values()]
}

const hierarchies = () => parseHierarchies(readFileSync('/proc/self/mountinfo', 'utf8'))

const groupOf = (hierarchy: Hierarchy, ...path: string[]) => join(hierarchy.mountPoint, 'rekey', ...path)

/** Makes the cgroups of a machine. Returns the files into which the pid of its first process must be written. */
export function createCgroups(lab: string, machine: string): string[] {
  return hierarchies().map(hierarchy => {
    let parent = hierarchy.mountPoint
    for (const part of ['rekey', lab, machine]) {
      if (hierarchy.version === 2) passOnControllers(parent)
      const folder = join(parent, part)
      mkdirSync(folder, { recursive: true })
      // An empty cpuset takes no processes, and a new one is empty on v1.
      for (const setting of ['cpuset.cpus', 'cpuset.mems'])
        if (hierarchy.version === 1 && existsSync(join(folder, setting)))
          writeFileSync(join(folder, setting), readFileSync(join(parent, setting)))
      parent = folder
    }
    return join(parent, 'cgroup.procs')
  })
}

function passOnControllers(folder: string): void {
  for (const controller of readFileSync(join(folder, 'cgroup.controllers'), 'utf8').split(/\s+/).filter(Boolean)) {
    try {
      writeFileSync(join(folder, 'cgroup.subtree_control'), `+${controller}`)
    } catch {
      // Some controllers can't be passed on while others are; the kubelet says so if it misses one that it needs.
    }
  }
}

/** Every process in a machine's cgroups, whatever started it. */
export function processesOf(lab: string, machine?: string): number[] {
  const pids = new Set<number>()
  for (const hierarchy of hierarchies())
    for (const folder of foldersBelow(machine ? groupOf(hierarchy, lab, machine) : groupOf(hierarchy, lab))) {
      try {
        for (const pid of readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n'))
          if (pid && pid !== '0') pids.add(Number(pid))
      } catch {
        // The cgroup ended between being listed and being read.
      }
    }
  return [...pids]
}

/** The cgroup folders at and below a path, deepest first. */
function foldersBelow(path: string): string[] {
  const folders: string[] = []
  const visit = (folder: string) => {
    let entries: string[]
    try {
      entries = readdirSync(folder, { withFileTypes: true })
        .filter(entry => entry.isDirectory())
        .map(({ name }) => name)
    } catch {
      return
    }
    for (const entry of entries) visit(join(folder, entry))
    folders.push(folder)
  }
  visit(path)
  return folders
}

/** Ends every process of a machine at once, and removes its cgroups. Returns when nothing is left. */
export async function endCgroups(lab: string, machine: string): Promise<void> {
  await waitFor(
    `the processes of ${machine} to end`,
    120,
    () => {
      const pids = processesOf(lab, machine)
      for (const pid of pids) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // It has ended by itself.
        }
      }
      return pids.length === 0 || undefined
    },
    { every: 50 },
  )
  await removeFolders(machine, () => hierarchies().flatMap(hierarchy => foldersBelow(groupOf(hierarchy, lab, machine))))
}

/** Removes what `endCgroups` leaves: the empty cgroup of the lab, and that of all labs if this was the last. */
export async function removeLabCgroups(lab: string): Promise<void> {
  await removeFolders(lab, () => hierarchies().flatMap(hierarchy => foldersBelow(groupOf(hierarchy, lab))))
  for (const hierarchy of hierarchies()) {
    try {
      rmdirSync(groupOf(hierarchy))
    } catch {
      // Another lab is still in it, or there was none.
    }
  }
}

async function removeFolders(what: string, list: () => string[]): Promise<void> {
  // A process that has just ended may hold its cgroup for a moment.
  await waitFor(
    `the cgroups of ${what} to be empty`,
    60,
    () => {
      const folders = list()
      for (const folder of folders) {
        try {
          rmdirSync(folder)
        } catch {
          // Tried again with the next poll.
        }
      }
      return folders.length === 0 || undefined
    },
    { every: 50 },
  )
}

/** Stops every process of a lab where it is, or lets them go on. Frozen processes see nothing but time pass. */
export async function freeze(lab: string, frozen: boolean): Promise<void> {
  const folders = hierarchies().map(hierarchy => groupOf(hierarchy, lab))
  // Where both versions are mounted, processes stopped by one never report to the other.
  const v1 = folders.map(folder => join(folder, 'freezer.state')).find(existsSync)
  const v2 = folders.find(folder => existsSync(join(folder, 'cgroup.freeze')))
  const isDone = () => {
    if (v1) {
      // v1 gives up on a process that was busy in the kernel: asking again goes on.
      writeFileSync(v1, frozen ? 'FROZEN' : 'THAWED')
      return readFileSync(v1, 'utf8').trim() === (frozen ? 'FROZEN' : 'THAWED')
    }
    return !v2 || readFileSync(join(v2, 'cgroup.events'), 'utf8').includes(`frozen ${frozen ? 1 : 0}`)
  }
  if (!v1 && v2) writeFileSync(join(v2, 'cgroup.freeze'), frozen ? '1' : '0')
  await waitFor(frozen ? 'the machines to stand still' : 'the machines to go on', 20, () => isDone() || undefined, {
    every: 20,
  })
}
