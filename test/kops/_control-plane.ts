// The control plane of a cluster as a host: a real sshd, and an inventory that says how to log in there.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { startSshd } from '../ssh/sshd.ts'
import type { Bench } from './_cluster.ts'

/** Starts it until the test has ended, with more lines of sshd's configuration. Returns the inventory's file. */
export async function controlPlaneOf(
  t: ExecutionContext,
  bench: Bench,
  lines: readonly string[] = [],
): Promise<string> {
  const { folder, settings, stop } = await startSshd(lines)
  t.teardown(stop)
  const cp = {
    ...{ ansible_host: '127.0.0.1', ansible_port: settings.port, ansible_user: settings.user },
    ansible_ssh_private_key_file: join(folder, 'user'),
    ansible_ssh_common_args: `-o UserKnownHostsFile=${join(folder, 'known_hosts')}`,
    rekey_directory: join(bench.kept, 'cp'),
  }
  const inventory = join(folder, 'hosts.json')
  writeFileSync(inventory, JSON.stringify({ masters: { hosts: { cp } } }))
  return inventory
}
