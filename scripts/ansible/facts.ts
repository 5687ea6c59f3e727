// Asks ansible-core's module `setup` what it finds on the machines of test/operations/facts.json: namespaces with another /etc, name and network.
// As root: node scripts/ansible/facts.ts
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { canHaveUsers, makeUsers } from '../../test/operations/_users.ts'
import { ansibleProgram, installAnsible, oracleEnvironment } from '../update-ansible-core.ts'

const root = join(import.meta.dirname, '..', '..')
const path = join(root, 'test', 'operations', 'facts.json')

/** Writes down the answers. Without root they stay as they are. */
export async function updateFacts(): Promise<void> {
  if (!canHaveUsers) return console.error('facts are not asked for: that takes root')
  const file = JSON.parse(readFileSync(path, 'utf8')) as {
    network: string[]
    fields: string[]
    cases: { about: string; etc: Record<string, string>; ansible?: unknown }[]
  }
  const cases: object[] = []
  for (const one of file.cases) {
    const machine = await makeUsers({ etc: one.etc, network: file.network.join('\n') })
    try {
      const python = `ansible_python_interpreter=${ansibleProgram('python')}`
      const subset = 'gather_subset=!all,!min,distribution,network,platform,service_mgr,user'
      const words = [
        ansibleProgram('ansible'),
        'localhost',
        '-o',
        '-c',
        'local',
        '-e',
        python,
        '-m',
        'setup',
        '-a',
        subset,
      ]
      const { stdout, stderr } = spawnSync(machine.enter[0]!, [...machine.enter.slice(1), ...words], {
        encoding: 'utf8',
        env: oracleEnvironment(),
      })
      if (!stdout.includes('SUCCESS => ')) throw new Error(`${one.about}: ${stdout}${stderr}`)
      const said = JSON.parse(stdout.slice(stdout.indexOf('=> ') + 3)) as { ansible_facts: Record<string, unknown> }
      const ansible = Object.fromEntries(file.fields.map(name => [name, said.ansible_facts[`ansible_${name}`] ?? null]))
      const { address, interface: device, gateway } = (ansible['default_ipv4'] ?? {}) as Record<string, string>
      cases.push({
        ...one,
        ansible: {
          ...ansible,
          ...('default_ipv4' in ansible ? { default_ipv4: { address, interface: device, gateway } } : {}),
        },
      })
    } finally {
      machine.close()
    }
  }
  writeFileSync(path, JSON.stringify({ ...file, cases }))
  execFileSync(join(root, 'node_modules', '.bin', 'biome'), ['format', '--write', path], { cwd: root })
}

if (process.argv[1] === import.meta.filename) {
  installAnsible()
  await updateFacts()
}
