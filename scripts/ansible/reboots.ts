// Asks ansible-core's module `reboot` what it does in the cases of test/operations/reboots.json: of sshds that are started anew. As root:
// node scripts/ansible/reboots.ts
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { canReboot, optionsOf, type RebootCase, startHost, stateOf } from '../../test/operations/_reboots.ts'
import { installAnsible } from '../update-ansible-core.ts'
import { askLines, spelled } from './lines.ts'

const root = join(import.meta.dirname, '..', '..')
const path = join(root, 'test', 'operations', 'reboots.json')
/** Whose unit is the second there. */
const isTime = (name: string) => /(Timeout|Delay)$/.test(name)

/** Writes down the answers. Without root they stay as they are. */
export async function updateReboots(): Promise<void> {
  if (!canReboot) {
    console.error('reboots are not asked for: that takes root')
    return
  }
  const cases = JSON.parse(readFileSync(path, 'utf8')) as RebootCase[]
  const work = mkdtempSync(join(tmpdir(), 'rekey-reboots-'))
  const hosts = await Promise.all(cases.map(() => startHost()))
  try {
    const inventory = Object.fromEntries(
      cases.map(({ local, options, ansibleOptions }, index) => {
        const { settings } = hosts[index]!
        const args = Object.entries(optionsOf({ ...options, ...ansibleOptions }, hosts[index]!)).map(
          ([name, value]) => [spelled(name), isTime(name) ? Number(value) / 1_000 : value] as const,
        )
        const way = {
          ansible_connection: local ? 'local' : 'ssh',
          ansible_host: '127.0.0.1',
          ansible_port: settings.port,
          ansible_ssh_private_key_file: settings.privateKeyFile,
          ansible_ssh_common_args: `-o UserKnownHostsFile=${settings.knownHostsFiles?.[0]}`,
        }
        return [`h${index}`, { ...way, options: Object.fromEntries(args) }]
      }),
    )
    writeFileSync(join(work, 'hosts.json'), JSON.stringify({ all: { hosts: inventory } }))
    const one = (phase: string) => ({
      name: phase,
      'ansible.builtin.reboot': '{{ options }}',
      check_mode: phase === 'check',
      ignore_errors: true,
    })
    const said = askLines(work, [one('check'), one('first')], { words: ['-i', join(work, 'hosts.json')] })
    const answered = cases.map((one, index) => {
      const [check, first] = ['check', 'first'].map(phase => said.get(`h${index} ${phase}`))
      if (!check || !first) throw new Error(`${one.about}: no answer`)
      const state = stateOf(hosts[index]!)
      return { ...one, ansible: { failed: first.failed, check: check.changed, ...state } }
    })
    writeFileSync(path, JSON.stringify(answered))
    execFileSync(join(root, 'node_modules', '.bin', 'biome'), ['format', '--write', path], { cwd: root })
  } finally {
    for (const host of hosts) await host.stop()
    rmSync(work, { recursive: true, force: true })
  }
}

if (process.argv[1] === import.meta.filename) {
  installAnsible()
  await updateReboots()
}
