// Writes down what ansible-core says of every inventory, pattern, template and YAML text in test/inventory, of tags in test/run, and what its
// modules do in test/operations/ansible:
// npm run test:update-ansible
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { jsonText } from '../lib/inventory/python/python-json.ts'
import type { Mapping, Value } from '../lib/inventory/values.ts'
import { createVault } from '../lib/inventory/vault/vault.ts'
import { parseJson } from '../lib/inventory/yaml/json.ts'
import { updateFacts } from './ansible/facts.ts'
import { updateOperations } from './ansible/operations.ts'
import { updatePackages } from './ansible/packages.ts'
import { updatePorts } from './ansible/ports.ts'
import { updateReboots } from './ansible/reboots.ts'
import { updateUsers } from './ansible/users.ts'
import {
  ansibleProgram,
  ansibleVersion,
  asValue,
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
const fixtures = join(tests, 'fixtures')
const vault = createVault([])
const patternsFile = join(fixtures, 'patterns.json')
const patterns = JSON.parse(readFileSync(patternsFile, 'utf8')) as { pattern: string; limit?: string }[]
const selected = await oracle.ask({
  kind: 'patterns',
  sources: ['patterns.yml'],
  cwd: fixtures,
  patterns: patterns.map(({ pattern, limit }) => [pattern, limit ?? null]),
})
const hosts = JSON.parse(selected.stdout) as Value[]
writeRows(
  patternsFile,
  '[',
  patterns.map((row, index) => ({ ...row, hosts: hosts[index]! })),
  ']',
)

const templatesFile = join(fixtures, 'templates.json')
const stored = parseJson(readFileSync(templatesFile, 'utf8'), 'templates', vault) as Mapping
const [variables, templates] = [stored.get('variables')!, stored.get('templates') as Mapping[]]
const evaluated = await oracle.ask({
  kind: 'templates',
  // Lookups read files/ and templates/ there.
  cwd: fixtures,
  variables,
  templates: templates.map(row => String(row.get('template'))),
})
const answers = evaluated.stdout
  .trim()
  .split('\n')
  .map(line => parseJson(line, 'answer', vault) as Mapping)
const rows = templates.map((row, index) => ({
  template: row.get('template'),
  ...Object.fromEntries(answers[index]!.entries()),
  ...(row.has('refused') ? { refused: row.get('refused') } : {}),
}))
writeRows(templatesFile, `{ "variables": ${jsonText(variables)},\n"templates": [`, rows, ']}')

const tagsFile = join(import.meta.dirname, '..', 'test', 'run', 'fixtures', 'tags.json')
const { own, rows: asked } = JSON.parse(readFileSync(tagsFile, 'utf8')) as {
  own: string[][]
  rows: { tags: string[]; skipTags: string[] }[]
}
const chosen = await oracle.ask({ kind: 'tags', own, asked: asked.map(({ tags, skipTags }) => [tags, skipTags]) })
const taken = JSON.parse(chosen.stdout) as boolean[][]
const tagRows = asked.map(({ tags, skipTags }, index) => ({ tags, skipTags, chosen: taken[index]! }))
writeRows(tagsFile, `{ "own": ${jsonText(own)},\n"rows": [`, tagRows, ']}')

const yamlFile = join(fixtures, 'yaml.json')
const texts = (JSON.parse(readFileSync(yamlFile, 'utf8')) as { text: string }[]).map(({ text }) => text)
const said = (await oracle.ask({ kind: 'yaml', texts })).stdout.trim().split('\n')
const yamlRows = texts.map((text, index) => ({ text, ...(JSON.parse(said[index]!) as object) }))
writeRows(yamlFile, '[', yamlRows, ']')
oracle.close()

updateOperations()
await updateUsers()
updatePackages()
await updateReboots()
await updateFacts()
await updatePorts()

const python = execFileSync(ansibleProgram('python'), ['--version'], { encoding: 'utf8' }).trim()
const oracleFile = { by: 'npm run test:update-ansible', 'ansible-core': ansibleVersion, python }
writeFileSync(join(fixtures, 'oracle.json'), `${JSON.stringify(oracleFile, undefined, 2)}\n`)
if (failed > 0) {
  console.error(`${failed} cases have no answer`)
  process.exitCode = 1
}

/** One row a line: what changes shows in a diff. Numbers stay as Python writes them, 1.0 apart from 1. */
function writeRows(file: string, before: string, list: readonly object[], after: string): void {
  writeFileSync(file, `${before}\n${list.map(row => jsonText(asValue(row))).join(',\n')}\n${after}\n`)
}
