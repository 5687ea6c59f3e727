// inventory/example: what we recommend to write loads, and says something about every variable of every playbook that goes to hosts.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { loadInventory } from '../../lib/inventory/index.ts'
import { isForThisMachine } from '../../lib/playbook/host.ts'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { resolveVariables, variableNames } from '../../lib/playbook/variables.ts'

const root = join(import.meta.dirname, '..', '..')
const folder = join(root, 'inventory', 'example')
const load = (extraVars: readonly string[] = []) =>
  loadInventory({ sources: ['hosts.yml'], cwd: folder, environment: { HOME: '/home/op' }, extraVars })
const playbooks = readdirSync(join(root, 'playbooks')).filter(name => name.endsWith('.ts'))

test.serial('it is a cluster of three masters and three nodes, with addresses and host keys', async t => {
  const inventory = await load()
  t.deepEqual(
    inventory.select('masters').map(host => host.name),
    ['master1', 'master2', 'master3'],
  )
  t.deepEqual(
    inventory.select('nodes').map(host => host.connection.address),
    ['192.0.2.21', '192.0.2.22', '192.0.2.23'],
  )
  const { user, become, knownHostsFiles, hostKeyChecking } = inventory.host('master1').connection
  t.is(user, 'rekey')
  t.deepEqual(become, { method: 'sudo', user: 'root' })
  t.is(knownHostsFiles?.[0], '/home/op/.ssh/known_hosts.example')
  t.is(hostKeyChecking, 'yes')
})

for (const name of playbooks) {
  test.serial(`its variables fit ${name}, and none of that playbook's is left out`, async t => {
    const { playbook } = await loadPlaybook(join(root, 'playbooks', name))
    // Such a one takes no inventory, and has its variables from the command line.
    if (isForThisMachine(playbook.plays)) return t.regex(name, /^(rotate|recreate)-kops-?/)
    const written = readFileSync(join(folder, 'group_vars', 'all.yml'), 'utf8')
    // What a run is about is said when it is begun, as the comments show it.
    const about = [
      ...written.matchAll(/^# ((?:hsm_|kms_|registry)\w*): ([\w/]\S*)$/gm),
      ...[
        ['', 'keysets', 'front-proxy-ca'],
        ['', 'destroy_key', '"aescbc key-1"'],
      ],
    ]
    const said = about.filter(([, variable]) => variableNames(playbook).includes(variable!))
    const inventory = await load(said.map(([, variable, value]) => `${variable}=${value}`))
    const { extraVariables } = inventory
    await t.notThrowsAsync(resolveVariables(playbook, inventory.select('cluster'), extraVariables, () => false))
    for (const variable of variableNames(playbook)) {
      // What is typed for each run is refused in an inventory.
      if (variable.startsWith('confirm')) t.notRegex(written, new RegExp(`^(# )?${variable}:`, 'm'))
      else t.regex(written, new RegExp(`^(# )?${variable}:`, 'm'), variable)
    }
  })
}
