// Asks ansible-core's module `wait_for` which ports it waits for in vain, in the cases of test/operations/ports.json: node scripts/ansible/ports.ts
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { openPorts, type PortCase } from '../../test/operations/_ports.ts'
import { ansibleProgram, installAnsible, oracleEnvironment } from '../update-ansible-core.ts'

const root = join(import.meta.dirname, '..', '..')
const path = join(root, 'test', 'operations', 'ports.json')
const spelled = (name: string) => name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)

/** Writes down the answers. */
export async function updatePorts(): Promise<void> {
  const cases = JSON.parse(readFileSync(path, 'utf8')) as PortCase[]
  const ports = await openPorts()
  const work = mkdtempSync(join(tmpdir(), 'rekey-ports-'))
  try {
    const tasks = cases.flatMap(({ port, options }, index) => {
      const args = Object.fromEntries(Object.entries(options).map(([name, value]) => [spelled(name), value]))
      const wait = {
        'ansible.builtin.wait_for': { port: ports.numbers[port], timeout: 1, ...args },
        register: `case${index}`,
        ignore_errors: true,
      }
      // Failed: it waited in vain.
      const note = { 'ansible.builtin.shell': `echo {{ case${index} is failed }} >>${join(work, 'answers')}` }
      return [wait, note]
    })
    const vars = { ansible_python_interpreter: ansibleProgram('python') }
    writeFileSync(join(work, 'play.json'), JSON.stringify([{ hosts: 'h1', gather_facts: false, vars, tasks }]))
    const words = ['-i', 'h1,', '-c', 'local', join(work, 'play.json')]
    await promisify(execFile)(ansibleProgram('ansible-playbook'), words, { env: oracleEnvironment() })
    const answers = readFileSync(join(work, 'answers'), 'utf8').trim().split('\n')
    writeFileSync(path, JSON.stringify(cases.map((one, index) => ({ ...one, ansible: answers[index] === 'False' }))))
    execFileSync(join(root, 'node_modules', '.bin', 'biome'), ['format', '--write', path], { cwd: root })
  } finally {
    ports.close()
    rmSync(work, { recursive: true, force: true })
  }
}

if (process.argv[1] === import.meta.filename) {
  installAnsible()
  await updatePorts()
}
