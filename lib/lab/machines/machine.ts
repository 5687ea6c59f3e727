// Boots and ends machines: systemd-nspawn on an overlay of the base, in a cgroup and network namespace of their own.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { type CommandOptions, type CommandResult, command, lastLines, tryCommand, waitFor } from '../command.ts'
import { labFolder, runtimeFolder, writeWhole } from '../folders.ts'
import type { Machine, Shape } from '../shape.ts'
import { createCgroups, endCgroups, processesOf } from './cgroups.ts'
import { etcdDisk, hasEtcdDisk } from './etcd-disk.ts'
import { createNetwork, namespacePath, removeNetwork } from './network.ts'

/** What machines are made of: folders and programs of the cache. */
export interface Parts {
  /** The folder of the Debian that all machines share. */
  readonly base: string
  /** The folder of a containerd that knows all images. */
  readonly containerd: string
  /** Programs by name. */
  readonly binaries: Readonly<Record<'kubernetes' | 'vault', string> & Partial<Record<'kms', string>>>
}

/** The folder that holds a machine's disks. `upper` in it is what the machine has changed of the base. */
export const machineFolder = (lab: string, machine: string): string => join(labFolder(lab), 'machines', machine)

/** A file of a machine, as the control machine sees it. Only for files that are not part of the base. */
export const fileOf = (lab: string, machine: string, path: string): string =>
  join(machineFolder(lab, machine), 'upper', path)

interface Running {
  /** The machine's first process. */
  readonly leader: number
  /** When that one was started, in the kernel's ticks: pids are used again. */
  readonly leaderStarted: string
}

const runningFile = (lab: string, machine: string) => join(runtimeFolder(lab), `${machine}.json`)

/** When a process was started, in ticks since the kernel's start; undefined when it has ended. */
export function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is a name in parentheses that may contain anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : fields[19]
  } catch {
    return undefined
  }
}

function readRunning(lab: string, machine: string): Running | undefined {
  try {
    const running = JSON.parse(readFileSync(runningFile(lab, machine), 'utf8')) as Running
    return startOf(running.leader) === running.leaderStarted ? running : undefined
  } catch {
    return undefined
  }
}

/** The first process of a machine, or undefined when it does not run. */
export const leaderOf = (lab: string, machine: string): number | undefined => readRunning(lab, machine)?.leader

/** When a machine booted, in milliseconds since 1970, or undefined when it does not run. */
export const bootTimeOf = (lab: string, machine: string): number | undefined =>
  readRunning(lab, machine) && statSync(runningFile(lab, machine)).mtimeMs

/** Whether a machine runs and has got as far as letting somebody log in. */
export async function isUp(lab: string, machine: string): Promise<boolean> {
  if (!leaderOf(lab, machine)) return false
  const { code } = await tryExec(lab, machine, ['systemctl', 'is-active', '--quiet', 'ssh.service'], {
    timeout: 10,
  }).catch(() => ({ code: 1 }))
  return code === 0
}

/** Boots a machine whose disk has been prepared. Whatever an earlier run of it left behind is removed first. */
export async function startMachine(shape: Shape, machine: Machine, parts: Parts): Promise<void> {
  const lab = shape.name
  const folder = machineFolder(lab, machine.name)
  await endCgroups(lab, machine.name)
  await createNetwork(shape, machine)
  for (const part of ['upper', 'root', 'kubelet', 'etcd']) mkdirSync(join(folder, part), { recursive: true })
  // The kernel wants an empty folder here, and refuses one that another mount has used.
  await command('rm', ['-rf', '--one-file-system', join(folder, 'work'), join(folder, 'containerd')])
  mkdirSync(join(folder, 'work'))
  const ownDisk = hasEtcdDisk(shape, machine) && (await etcdDisk(folder))
  const binds: string[] = []
  if (machine.podSubnet) {
    await copyContainerd(parts.containerd, join(folder, 'containerd'))
    binds.push(
      // Container runtimes stack overlays on these folders; an overlay can't be stacked on the machine's own.
      ...['containerd', 'kubelet'].map(part => `--bind=${join(folder, part)}:/var/lib/${part}`),
      '--bind=/dev/kmsg',
    )
  }
  if (machine.role === 'master' || machine.role === 'node' || machine.role === 'etcd')
    binds.push(
      `--bind=${join(folder, ownDisk ? 'etcd-disk' : 'etcd')}:/var/lib/etcd`,
      `--bind-ro=${parts.binaries.kubernetes}:/usr/local/bin/kubernetes`,
    )
  if (machine.role === 'master' && parts.binaries.kms) binds.push(`--bind-ro=${parts.binaries.kms}:/usr/local/bin/kms`)
  if (machine.role === 'vault') binds.push(`--bind-ro=${parts.binaries.vault}:/usr/local/bin/vault`)
  const script = `
    for group in ${createCgroups(lab, machine.name).join(' ')}; do echo $$ > $group; done
    ${ownDisk ? `mkdir -p ${folder}/etcd-disk; mount -o loop ${ownDisk} ${folder}/etcd-disk; chmod 700 ${folder}/etcd-disk` : ''}
    mount -t overlay -o lowerdir=${parts.base},upperdir=${folder}/upper,workdir=${folder}/work rekey ${folder}/root
    exec systemd-nspawn --boot --register=no --keep-unit --settings=no --link-journal=no --resolv-conf=off \\
      --timezone=off --capability=all --system-call-filter='@keyring bpf @mount' --machine=${lab}-${machine.name} \\
      --hostname=${machine.hostname} --network-namespace-path=${namespacePath(lab, machine.name)} \\
      --directory=${folder}/root ${binds.join(' ')}`
  const log = openSync(join(folder, 'console.log'), 'w', 0o600)
  // Its mounts are in a namespace of its own: they end with the machine, however it ends.
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-euc', script], {
    detached: true,
    stdio: ['ignore', log, log],
    cwd: '/',
    env: { PATH: process.env.PATH, SYSTEMD_NSPAWN_API_VFS_WRITABLE: 'yes', SYSTEMD_NSPAWN_LOCK: 'no' },
  })
  const ended = new Promise<string>(resolve => {
    child.on('error', error => resolve(error.message))
    child.on('exit', code => resolve(`exit code ${code}`))
  })
  let failure: string | undefined
  ended.then(reason => {
    failure = reason
  })
  child.unref()
  await waitFor(
    `${machine.name} to boot`,
    120,
    () => {
      if (failure)
        throw new RekeyError(
          `${machine.name} did not start (${failure}): ${lastLines(readFileSync(join(folder, 'console.log'), 'utf8'))}`,
          { code: 'lab.machine-failed' },
        )
      const leader = child.pid && findLeader(child.pid)
      const leaderStarted = leader && startOf(leader)
      if (!leader || !leaderStarted) return undefined
      mkdirSync(runtimeFolder(lab), { recursive: true, mode: 0o700 })
      const running: Running = { leader, leaderStarted }
      writeWhole(runningFile(lab, machine.name), JSON.stringify(running))
      return true
    },
    { every: 50 },
  )
}

/** The child of systemd-nspawn that is the first process of its machine. */
function findLeader(supervisor: number): number | undefined {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const status = readFileSync(`/proc/${entry}/status`, 'utf8')
      if (!new RegExp(`^PPid:\\t${supervisor}$`, 'm').test(status)) continue
      // Its last number in NSpid is its pid inside.
      if (/^NSpid:.*\t1$/m.test(status) && /^Name:\t(systemd|init)$/m.test(status)) return Number(entry)
    } catch {
      // It ended meanwhile.
    }
  }
  return undefined
}

/** Copies a containerd's folder. What never changes (layers, blobs) is linked; its databases are copied. */
async function copyContainerd(from: string, to: string): Promise<void> {
  const linked = await tryCommand('cp', ['-al', from, to], { timeout: 120 })
  if (linked.code !== 0) {
    rmSync(to, { recursive: true, force: true })
    await command('cp', ['-a', '--reflink=auto', from, to], { timeout: 300 })
    return
  }
  const databases = await command('find', [to, '-name', '*.db', '-type', 'f'])
  for (const database of databases.split('\n').filter(Boolean)) {
    const content = readFileSync(database)
    rmSync(database)
    writeWhole(database, content, { mode: 0o644 })
  }
}

/** SIGRTMIN+3, by which a systemd is asked to halt; Node knows no names for signals of this kind. */
const haltSignal = 37

/** Asks a machine to shut down, ends it when it doesn't, and removes its cgroups and network. */
export async function stopMachine(shape: Shape, machine: Machine, { patience = 25 } = {}): Promise<void> {
  const lab = shape.name
  const running = readRunning(lab, machine.name)
  if (running && patience > 0) {
    try {
      process.kill(running.leader, haltSignal)
      await waitFor('', patience, () => processesOf(lab, machine.name).length === 0 || undefined, { every: 100 })
    } catch {
      // Its patience is over, or it has just ended: what is left is ended below.
    }
  }
  await endCgroups(lab, machine.name)
  await removeNetwork(shape, machine)
  rmSync(runningFile(lab, machine.name), { force: true })
  // Where the machine was mounted; only an empty folder is left of it.
  for (const leftover of [`/run/systemd/nspawn/propagate/${lab}-${machine.name}`])
    if (existsSync(leftover)) rmSync(leftover, { recursive: true, force: true })
}

const machinePath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * Runs a program inside a machine, as root, past its sshd. Returns how it ended.
 * Throws a `RekeyError` (`lab.machine-down`) when the machine does not run.
 */
export async function tryExec(
  lab: string,
  machine: string,
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const leader = leaderOf(lab, machine)
  if (!leader)
    throw new RekeyError(`machine ${machine} of lab '${lab}' is not running`, {
      code: 'lab.machine-down',
      hint: `Start it with: rekey lab up --name ${lab}`,
    })
  const environment = [`PATH=${machinePath}`, 'HOME=/root', 'LANG=C.UTF-8']
  return tryCommand(
    'nsenter',
    [
      ...['--target', String(leader), '--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup'],
      ...['--', 'env', '-i', ...environment, ...argv],
    ],
    options,
  )
}

/** Runs a program inside a machine that must succeed there; returns its standard output. */
export async function exec(
  lab: string,
  machine: string,
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await tryExec(lab, machine, argv, options)
  if (result.code !== 0)
    throw new RekeyError(
      `${machine}: ${argv.join(' ').slice(0, 200)}: exit code ${result.code}: ${lastLines(result.stderr || result.stdout)}`,
      { code: 'lab.command-failed', host: machine },
    )
  return result.stdout
}
