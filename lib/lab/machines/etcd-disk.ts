// A disk for etcd alone: a file system in a file, mounted where etcd keeps its data.
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { command } from '../command.ts'
import { etcdMachines, type Machine, type Shape } from '../shape.ts'

/** Whether etcd of a machine has a disk of its own. */
export const hasEtcdDisk = (shape: Shape, { name }: Machine): boolean =>
  shape.disks === 'separate' && etcdMachines(shape).some(machine => machine.name === name)

/** How large it is; what is not used takes no space here. */
const size = '1G'

/**
 * The file with a machine's disk for etcd. It is made of the plain folder that a new lab and a snapshot have, which is empty afterwards:
 * what lies in there is newer than any disk.
 */
export async function etcdDisk(folder: string): Promise<string> {
  const file = join(folder, 'etcd.img')
  const plain = join(folder, 'etcd')
  const content = readdirSync(plain)
  if (existsSync(file) && content.length === 0) return file
  rmSync(`${file}.new`, { force: true })
  await command('mkfs.ext4', ['-q', '-d', plain, `${file}.new`, size], { timeout: 120 })
  renameSync(`${file}.new`, file)
  for (const name of content) rmSync(join(plain, name), { recursive: true })
  return file
}

/** Copies etcd's files out of a machine with a disk for them into a plain folder. `leader` is the machine's first process. */
export async function copyOffEtcdDisk(leader: number, to: string): Promise<void> {
  mkdirSync(to, { recursive: true, mode: 0o700 })
  const mounted = `/proc/${leader}/root/var/lib/etcd`
  await command('cp', ['-a', '--reflink=auto', `${mounted}/.`, to], { timeout: 300 })
  rmSync(join(to, 'lost+found'), { recursive: true, force: true })
}
