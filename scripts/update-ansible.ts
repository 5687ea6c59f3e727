// Writes down what ansible-core says of every inventory, pattern and template in test/inventory: npm run test:update-ansible
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  ansibleProgram,
  ansibleVersion,
  installAnsible,
  oracleEnvironment,
  startOracle,
} from './update-ansible-core.ts'

const tests = join(import.meta.dirname, '..', 'test', 'inventory')

/** What a case asks, in its `case.json`: arguments of ansible-inventory, and of the environment what it needs. */
interface Case {
  readonly about: string
  readonly args: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
}

installAnsible()
const cases = join(tests, 'cases')
let failed = 0
for (const name of readdirSync(cases).sort()) {
  const folder = join(cases, name)
  const { args, environment } = JSON.parse(readFileSync(join(folder, 'case.json'), 'utf8')) as Case
  const env = oracleEnvironment(environment)
  // A case with an ansible.cfg is about that file.
  if (existsSync(join(folder, 'ansible.cfg'))) env['ANSIBLE_CONFIG'] = join(folder, 'ansible.cfg')
  const { status, stdout, stderr } = spawnSync(ansibleProgram('ansible-inventory'), args, {
    cwd: folder,
    env,
    encoding: 'utf8',
  })
  // What Ansible only warns of and then leaves out would not be an answer to the question.
  if (status !== 0 || /Unable to parse|Failed to parse/.test(stderr)) {
    console.error(`${name}: ${stderr.trim()}`)
    failed++
  } else writeFileSync(join(folder, 'expected'), stdout)
}

const oracle = startOracle()
const patternsFile = join(tests, 'patterns.json')
const patterns = JSON.parse(readFileSync(patternsFile, 'utf8')) as {
  pattern: string
  limit?: string
  hosts?: string[] | null
}[]
const selected = await oracle.ask({
  kind: 'patterns',
  sources: ['patterns.yml'],
  cwd: tests,
  patterns: patterns.map(({ pattern, limit }) => [pattern, limit ?? null] as const),
})
const hosts = JSON.parse(selected.stdout) as (string[] | null)[]
const lines = patterns.map(
  ({ pattern, limit }, index) => `  ${JSON.stringify({ pattern, limit, hosts: hosts[index] })}`,
)
writeFileSync(patternsFile, `[\n${lines.join(',\n')}\n]\n`)

const templatesFile = join(tests, 'templates.json')
const templates = JSON.parse(readFileSync(templatesFile, 'utf8')) as {
  variables: unknown
  templates: { template: string }[]
}
const evaluated = await oracle.ask({
  kind: 'templates',
  variables: templates.variables,
  templates: templates.templates.map(({ template }) => template),
})
// The answers stay as Python wrote them: 1.0 is not 1.
const answers = evaluated.stdout.trim().split('\n')
const { templates: asked, variables } = templates
const written = asked.map(
  ({ template }, index) => `    { "template": ${JSON.stringify(template)}, ${answers[index]!.slice(1, -1)} }`,
)
writeFileSync(
  templatesFile,
  `{\n  "variables": ${JSON.stringify(variables)},\n  "templates": [\n${written.join(',\n')}\n  ]\n}\n`,
)
oracle.close()

const python = execFileSync(ansibleProgram('python'), ['--version'], { encoding: 'utf8' }).trim()
const oracleFile = { by: 'npm run test:update-ansible', 'ansible-core': ansibleVersion, python }
writeFileSync(join(tests, 'oracle.json'), `${JSON.stringify(oracleFile, undefined, 2)}\n`)
if (failed > 0) {
  console.error(`${failed} cases have no answer`)
  process.exitCode = 1
}
