// A worker does nothing in a fleet that was begun with something else than it has.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { type WorkOrders, work } from '../../lib/fleet/work/worker.ts'
import { playbookHash } from '../../lib/run/journal/provenance.ts'
import { rekeyVersion } from '../../lib/version.ts'
import { temporaryFolder } from '../_temporary.ts'

const playbook = join(temporaryFolder('same'), 'steps.ts')
writeFileSync(playbook, 'export default {}\n')
const begun = { name: 'x', hash: 'h', rekey: rekeyVersion(), playbookHash: playbookHash(playbook), recipient: 'age1' }

const cases = [
  ['fleet.yml', { hash: 'another' }, /^\/fleet\.yml is not what the fleet x was begun with$/],
  ['the rekey', { rekey: 'another' }, /^rekey .* is not what/],
  ['the playbook', { playbookHash: 'another' }, /^the playbook .*steps\.ts is not what/],
  ['the key', { recipient: 'another' }, /^the key is not what/],
] as const

for (const [what, other, said] of cases)
  test(`${what} is another one: refused before anything is made or asked`, async t => {
    const [file, key] = [{ hash: 'h', file: '/fleet.yml' }, { recipient: 'age1' }]
    // Without a database and a folder: whoever asks for one fails otherwise.
    const orders = { fleet: { ...begun, ...other }, file, key, playbook } as unknown as WorkOrders
    await t.throwsAsync(work(orders), { code: 'fleet.changed', message: said })
  })
