// How long 10,000 hosts in 200 nested groups take, in rekey and in ansible-inventory: npm run bench:inventory
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bigInventory, childrenOf, groupCount, hostCount, hostsOf } from './bench/big-inventory.ts'
import { ansibleInstalled, ansibleProgram, oracleEnvironment } from './update-ansible-core.ts'

const root = join(import.meta.dirname, '..')
const folder = mkdtempSync(join(tmpdir(), 'rekey-bench-'))

try {
  bigInventory(folder).write()
  writeFileSync(join(folder, 'hosts.ini'), iniInventory())

  const limits = { seconds: 1, megabytes: 300, faster: 20 }
  let missed = false
  for (const file of ['hosts.yml', 'hosts.ini']) {
    const loads = [1, 2, 3].map(() => load(file)).sort((one, other) => one.seconds - other.seconds)
    const best = loads[0]!
    const list = [1, 2, 3]
      .map(() => timed(process.execPath, [join(root, 'bin/rekey'), 'inventory', '-i', file, '--list']))
      .sort((one, other) => one - other)[0]!
    console.log(`${file}: ${hostCount} hosts in ${groupCount} groups`)
    console.log(
      `  load, every variable of every host merged   ${best.seconds.toFixed(2)} s, ${best.megabytes.toFixed(0)} MB (at most ${limits.seconds} s, ${limits.megabytes} MB)`,
    )
    console.log(`  rekey inventory --list                      ${list.toFixed(2)} s`)
    missed ||= best.seconds > limits.seconds || best.megabytes > limits.megabytes
    if (ansibleInstalled()) {
      const ansible = timed(ansibleProgram('ansible-inventory'), ['-i', file, '--list'])
      console.log(
        `  ansible-inventory --list                    ${ansible.toFixed(2)} s: ${(ansible / list).toFixed(0)}×${file === 'hosts.yml' ? ` (at least ${limits.faster}×)` : ''}`,
      )
      // INI costs Ansible far less than YAML does, and is printed for comparison only.
      if (file === 'hosts.yml') missed ||= ansible / list < limits.faster
    } else console.log('  ansible-inventory is not installed: npm run test:update-ansible installs it')
  }
  if (missed) process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true })
}

function iniInventory(): string {
  const lines: string[] = []
  for (let group = 0; group < groupCount; group++) {
    lines.push(`[g${group}]`)
    for (const name of hostsOf(group))
      lines.push(`${name} ansible_host=10.${group}.0.1 label=${name}-x disks="['sda', 'sdb']"`)
    lines.push(`[g${group}:vars]`, `rack=r${group}`, `shared_by_depth=${group}`)
    const children = childrenOf(group)
    if (children.length > 0) lines.push(`[g${group}:children]`, ...children.map(child => `g${child}`))
  }
  return `${lines.join('\n')}\n`
}

/** Loads in a process of its own, which prints how long it took and how much memory it needed at most. */
function load(file: string): { seconds: number; megabytes: number } {
  const program = `
    import { loadInventory } from '${join(root, 'lib/inventory/index.ts')}'
    const start = performance.now()
    const inventory = await loadInventory({ sources: ['${file}'] })
    let variables = 0
    for (const host of inventory.hosts) variables += Object.keys(host.vars).length
    if (variables < ${hostCount * 9}) throw new Error('variables are missing')
    console.log(JSON.stringify({ seconds: (performance.now() - start) / 1000, megabytes: process.resourceUsage().maxRSS / 1024 }))`
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: folder,
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as { seconds: number; megabytes: number }
}

/** Seconds that a program takes, output and all. */
function timed(program: string, args: readonly string[]): number {
  const start = performance.now()
  const { status, stderr, stdout } = spawnSync(program, args, {
    cwd: folder,
    env: oracleEnvironment(),
    encoding: 'utf8',
    maxBuffer: 1024 ** 3,
  })
  if (status !== 0 || stdout.length < hostCount * 100) throw new Error(stderr)
  return (performance.now() - start) / 1000
}
