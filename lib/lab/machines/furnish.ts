// What is the same cluster in every lab of its kind, however it is entered and whatever lies on its machines: who may log in, and which
// tools there are. Put on the disks each time before they boot, and no part of a snapshot's key.

import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { command } from '../command.ts'
import { writeWhole } from '../folders.ts'
import { has, type Machine, type Shape } from '../shape.ts'
import { loginPassword, privateKeyFile } from './keys.ts'
import { fileOf } from './machine.ts'

/** Who logs in where it is not root. */
export const operator = 'ops'
const operatorId = 1000

/** The user by whom the machines of a lab are entered. */
export const loginUser = ({ login }: Shape): string => (login === 'root' ? 'root' : operator)

/** Makes a disk that was just made, or put back, what the lab's traits say. `base` is the Debian below it. */
export async function furnish(shape: Shape, machine: Machine, base: string): Promise<void> {
  await placeOperator(shape, machine, base)
  for (const program of ['etcdctl', 'etcdutl']) await keepAway(shape, machine, `/usr/bin/${program}`)
}

async function placeOperator(shape: Shape, machine: Machine, base: string): Promise<void> {
  const path = (file: string) => fileOf(shape.name, machine.name, file)
  const files = {
    home: path(`/home/${operator}`),
    sudoers: path(`/etc/sudoers.d/${operator}`),
    // The first word that sshd reads on something counts: before the base's own file.
    sshd: path('/etc/ssh/sshd_config.d/10-login.conf'),
  }
  const there = shape.login !== 'root'
  const asks = shape.login === 'sudo-password'
  const accounts = {
    passwd: `${operator}:x:${operatorId}:${operatorId}::/home/${operator}:/bin/bash`,
    group: `${operator}:x:${operatorId}:`,
    shadow: `${operator}:${asks ? await hashed(loginPassword(shape.name)) : '*'}:19000:0:99999:7:::`,
  }
  for (const [file, line] of Object.entries(accounts)) {
    const original = join(base, 'etc', file)
    const own = path(`/etc/${file}`)
    const others = readFileSync(existsSync(own) ? own : original, 'utf8')
      .split('\n')
      .filter(other => other !== '' && !other.startsWith(`${operator}:`))
    const { mode, uid, gid } = statSync(original)
    place(own, `${[...others, ...(there ? [line] : [])].join('\n')}\n`, { mode: mode & 0o777, uid, gid })
  }
  for (const file of Object.values(files)) rmSync(file, { recursive: true, force: true })
  if (!there) return
  place(files.sudoers, `${operator} ALL=(ALL:ALL) ${asks ? '' : 'NOPASSWD: '}ALL\n`, { mode: 0o440 })
  place(files.sshd, 'PermitRootLogin no\n')
  const owner = { uid: operatorId, gid: operatorId }
  const ssh = join(files.home, '.ssh')
  mkdirSync(ssh, { recursive: true, mode: 0o700 })
  for (const folder of [files.home, ssh]) chownSync(folder, operatorId, operatorId)
  place(join(ssh, 'authorized_keys'), readFileSync(`${privateKeyFile(shape.name)}.pub`, 'utf8'), {
    mode: 0o600,
    ...owner,
  })
}

const hashed = async (password: string) =>
  (await command('openssl', ['passwd', '-6', '-stdin'], { input: `${password}\n` })).trim()

function place(file: string, content: string, { mode = 0o644, uid = 0, gid = 0 } = {}): void {
  mkdirSync(dirname(file), { recursive: true })
  writeWhole(file, content)
  chownSync(file, uid, gid)
  chmodSync(file, mode)
}

/** Hides a program of the base where the lab is without it, as an overlay does: by a device 0/0 in its place. */
async function keepAway(shape: Shape, machine: Machine, program: string): Promise<void> {
  const file = fileOf(shape.name, machine.name, program)
  if (lstatSync(file, { throwIfNoEntry: false })) rmSync(file)
  if (has(shape, 'etcdctl')) return
  mkdirSync(dirname(file), { recursive: true })
  await command('mknod', [file, 'c', '0', '0'])
}
