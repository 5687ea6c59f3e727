// Which process that is, so that no other is taken for it: names of machines, numbers of processes and times of their start come twice.
import { readFileSync, readlinkSync } from 'node:fs'
import { hostname } from 'node:os'

/** A process of some machine. */
export interface ProcessIdentity {
  /** The name of its machine: for people, two machines and any number of containers may have it. */
  readonly machine: string
  readonly pid: number
  /** When it was started, in the kernel's own count, where that can be read. */
  readonly started: string
  /**
   * Where its number and that count mean something: this boot of this kernel, and the namespaces of processes and times. Empty where that
   * can't be read; runs of an earlier rekey don't say it.
   */
  readonly scope?: string
}

/** This process. */
export function thisProcess(): ProcessIdentity {
  return { machine: hostname(), pid: process.pid, started: startOf('self') ?? '', scope: ownScope() }
}

/** Whether a process lives; `undefined` where that can't be told from here. */
export function isAlive({ machine, pid, started, scope }: ProcessIdentity): boolean | undefined {
  if (!Number.isInteger(pid) || pid <= 0) return undefined
  const own = ownScope()
  if (scope === undefined) return machine === hostname() && started !== '' && seen(pid) === started ? true : undefined
  if (scope === '' || scope !== own) return undefined
  const now = seen(pid)
  if (now !== undefined) return started === '' ? undefined : now === started
  // Of processes of others nothing may be seen (hidepid), or /proc is that of another namespace. A signal finds them all the same.
  return isThere(pid) ? undefined : false
}

/** Whether a process ran on the kernel that runs now, in whatever namespace: what the kernel holds for it can be asked for. */
export function isOfThisBoot({ scope }: ProcessIdentity): boolean {
  const [boot = ''] = ownScope().split(' ')
  return boot !== '' && scope?.split(' ')[0] === boot
}

function ownScope(): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    return `${boot} ${readlinkSync('/proc/self/ns/pid')} ${timeNamespace()}`
  } catch {
    return ''
  }
}

/** Kernels before 5.6 have none. */
function timeNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/time')
  } catch {
    return 'time:none'
  }
}

/** The start of a process of our own namespace, `dead` of one that only waits to be fetched; `undefined` where it can't be seen. */
function seen(pid: number): string | undefined {
  try {
    return readlinkSync('/proc/self') === String(process.pid) ? startOf(String(pid)) : undefined
  } catch {
    return undefined
  }
}

function startOf(process: string): string | undefined {
  try {
    const status = readFileSync(`/proc/${process}/stat`, 'utf8')
    // The name, in brackets, may hold anything; the 20th word behind it is the time of the start.
    const words = status.slice(status.lastIndexOf(')') + 2).split(' ')
    return ['Z', 'X'].includes(words[0] ?? '') ? 'dead' : words[19]
  } catch {
    return undefined
  }
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}
