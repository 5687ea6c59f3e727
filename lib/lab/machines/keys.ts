// The lab's keys for SSH: one for whoever comes in, one for each machine, and the known_hosts that goes with them; and a password.
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { command } from '../command.ts'
import { labFolder, privateFolder, writeWhole } from '../folders.ts'
import type { Shape } from '../shape.ts'
import { fileOf } from './machine.ts'

const sshFolder = (lab: string) => join(labFolder(lab), 'ssh')

/** The private key that opens every machine of a lab. */
export const privateKeyFile = (lab: string): string => join(sshFolder(lab), 'id_ed25519')

const passwordFile = (lab: string) => join(sshFolder(lab), 'password')

/** What sudo asks for on the machines of a lab where it asks. */
export const loginPassword = (lab: string): string => readFileSync(passwordFile(lab), 'utf8').trim()

/** The host keys of all machines of a lab. */
export const knownHostsFile = (lab: string): string => join(sshFolder(lab), 'known_hosts')

/** Makes all keys of a new lab and puts each machine's onto its disk. */
export async function createKeys(shape: Shape): Promise<void> {
  privateFolder(sshFolder(shape.name))
  await createKey(privateKeyFile(shape.name), `rekey lab ${shape.name}`)
  writeWhole(passwordFile(shape.name), `${randomBytes(12).toString('base64url')}\n`, { mode: 0o600 })
  const authorized = readFileSync(`${privateKeyFile(shape.name)}.pub`)
  const known: string[] = []
  for (const { name, address } of shape.machines) {
    const hostKey = fileOf(shape.name, name, '/etc/ssh/ssh_host_ed25519_key')
    mkdirSync(dirname(hostKey), { recursive: true })
    await createKey(hostKey, name)
    const [type, key] = readFileSync(`${hostKey}.pub`, 'utf8').split(' ')
    known.push(`${name},${address} ${type} ${key}`)
    const home = fileOf(shape.name, name, '/root/.ssh')
    mkdirSync(home, { recursive: true, mode: 0o700 })
    writeWhole(join(home, 'authorized_keys'), authorized, { mode: 0o600 })
  }
  writeWhole(knownHostsFile(shape.name), `${known.join('\n')}\n`, { mode: 0o600 })
}

async function createKey(path: string, comment: string): Promise<void> {
  if (existsSync(path)) return
  await command('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', comment, '-f', path])
}
