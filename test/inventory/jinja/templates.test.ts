// Templates in variables: the values that Ansible gives them (npm run test:update-ansible writes templates.json).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { addHost, createInventoryData } from '../../../lib/inventory/groups.ts'
import { isMapping, keyText, type Mapping, type Value, WholeFloat } from '../../../lib/inventory/values.ts'
import { createLayers } from '../../../lib/inventory/variables/layers.ts'
import { createResolver } from '../../../lib/inventory/variables/resolve.ts'
import { createVault } from '../../../lib/inventory/vault/vault.ts'
import { parseJson } from '../../../lib/inventory/yaml/json.ts'

const file = parseJson(
  readFileSync(join(import.meta.dirname, '..', 'fixtures', 'templates.json'), 'utf8'),
  'templates',
  createVault([]),
) as Mapping
const [variables, templates] = [file.get('variables') as Mapping, file.get('templates') as Mapping[]]

for (const row of templates) {
  const template = String(row.get('template'))
  const title = JSON.stringify(template)
  const read = () => evaluate(template)
  if (row.has('error')) test.serial(`the template ${title} is an error, as in Ansible`, t => void t.throws(read))
  else if (row.has('refused')) {
    test.serial(`the template ${title} is refused by name`, t => {
      t.throws(read, { message: new RegExp(String(row.get('refused'))) })
    })
  } else
    test.serial(`the template ${title} gives what Ansible gives`, t => t.deepEqual(read(), plain(row.get('value')!)))
}

/** A value as playbooks read it. */
function plain(value: Value): unknown {
  if (value instanceof WholeFloat) return value.value
  if (Array.isArray(value)) return value.map(plain)
  return isMapping(value) ? Object.fromEntries(value.entries().map(([key, one]) => [keyText(key), plain(one)])) : value
}

function evaluate(template: string): unknown {
  const data = createInventoryData()
  const host = addHost({ data, source: '/inventory/hosts' }, 'h', data.groups.get('ungrouped')!, undefined, {
    file: 'test',
  })
  const layers = createLayers({
    data,
    inventoryFolders: [],
    extraVars: new Map(
      [...variables.entries(), ['asked', template] as const].map(([name, value]) => [
        keyText(name),
        { value, origin: { file: 'test' } },
      ]),
    ),
  })
  const machine = {
    folder: join(import.meta.dirname, '..', 'fixtures'),
    cwd: join(import.meta.dirname, '..', 'fixtures'),
    environment: { HOME: '/home/operator', LC_ALL: 'C.UTF-8' },
    pipe: false,
    decrypt: (text: string) => text,
  }
  return createResolver({ data, layers, machine }).read(host, 'asked')
}
