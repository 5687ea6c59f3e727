// Host patterns and limits: the hosts that Ansible selects, in its order (npm run test:update-ansible writes patterns.json).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { loadInventory } from '../../lib/inventory/index.ts'

const folder = join(import.meta.dirname, 'fixtures')

interface Row {
  readonly pattern: string
  readonly limit?: string
  /** In Ansible's order; null where Ansible refuses the pattern. */
  readonly hosts: readonly string[] | null
}

const rows = JSON.parse(readFileSync(join(folder, 'patterns.json'), 'utf8')) as Row[]
// What is an error here and only a warning, or nothing at all, in Ansible.
const refused = new Set(['all with limit nothing', 'all with limit '])

for (const { pattern, limit, hosts } of rows) {
  const title = limit === undefined ? `"${pattern}"` : `${pattern} with limit ${limit}`
  test.serial(`the pattern ${title} selects what Ansible selects`, async t => {
    const inventory = await loadInventory({ sources: ['patterns.yml'], cwd: folder, environment: {} })
    const select = () => inventory.select(pattern, { limit }).map(host => host.name)
    if (hosts === null || refused.has(title)) t.throws(select, { message: /./ })
    else t.deepEqual(select(), [...hosts])
  })
}
