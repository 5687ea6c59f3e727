// `reboot` of sshds that are started anew, as far as anybody can tell: what comes of each case is what ansible-core's module made of it.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { workbench } from '../../cli/_rekey.ts'
import { canReboot, optionsOf, type RebootCase, startHost, stateOf } from '../../operations/_reboots.ts'
import { sshdMissing } from '../sshd.ts'

const real = canReboot && !sshdMissing() ? test.serial : test.skip
const file = join(import.meta.dirname, '..', '..', 'operations', 'reboots.json')

const source = `
import { play, playbook, reboot, step } from API
import { z } from ZOD
export default playbook({ name: 'reboot', summary: 'Reboots', vars: z.object({}), plays: [play('Reboot', { hosts: 'masters' }, [
  step('Reboot', reboot(({ host }) => host.vars.options)),
])] })`

real('hosts are started anew as by ansible-core’s module, all at once, and what fails says why', async t => {
  const cases = JSON.parse(readFileSync(file, 'utf8')) as RebootCase[]
  t.true(cases.length >= 10)
  const hosts = await Promise.all(cases.map(() => startHost()))
  t.teardown(() => Promise.all(hosts.map(host => host.stop())))
  const bench = workbench(hosts[0])
  const inventory = cases.map(({ local, options }, index) => {
    const host = hosts[index]!
    const way = {
      ansible_connection: local ? 'local' : 'ssh',
      ansible_port: host.port,
      ansible_ssh_private_key_file: host.settings.privateKeyFile,
      ansible_ssh_common_args: `-o UserKnownHostsFile=${host.settings.knownHostsFiles?.[0]}`,
      rekey_directory: join(host.folder, 'rekey'),
    }
    return [`h${index}`, { ...way, options: optionsOf(options, host) }] as const
  })
  const masters = { hosts: Object.fromEntries(inventory) }
  writeFileSync(bench.inventory, JSON.stringify({ all: { children: { masters } } }))
  const words = ['run', bench.playbook(source), '-i', bench.inventory, '-v']
  const checked = await bench.rekey([...words, '--check'])
  const ran = await bench.rekey(words)
  const line = (said: string, index: number) => said.split('\n').find(one => one.includes(`Reboot [h${index}]`)) ?? said
  for (const [index, { about, ansible, rekey }] of cases.entries()) {
    const expected = { ...ansible!, ...rekey }
    const told = line(ran.stdout, index)
    t.is(/^\S*\s*would change/.test(line(checked.stdout, index)), expected.check, `${about}: ${checked.stdout}`)
    // Of a host that does not come back nobody knows how it is.
    t.is(/^\S*\s*(failed|unknown) /.test(told), expected.failed, `${about}: ${told}`)
    t.deepEqual(stateOf(hosts[index]!), { asked: expected.asked, another: expected.another }, `${about}: ${told}`)
  }
  const why = (about: string) =>
    line(
      ran.stdout,
      cases.findIndex(one => one.about === about),
    )
  t.regex(why('the command fails'), /what starts it anew ended with 3: not today/)
  t.regex(why('a test that never goes well'), /failed .* is in another boot: waited \d+ s for 'false' to end well/)
  t.regex(why('it stays where it is'), /waited 4 s for h\d+ to be back, in another boot/)
})
