// Operations on a machine of a lab: what its real systemd, useradd and sshd make of them, a second time, and undone.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import * as lab from '../../../lib/lab/index.ts'
import { rehearse } from '../../../lib/testing/index.ts'
import { temporaryFolder } from '../../_temporary.ts'

const unit = '[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n'
const key = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} rk`

const playbook = `import { authorizedKey, facts, play, playbook, service, step, user, waitForPort } from 'rekey'
import { z } from 'zod'
export default playbook({ name: 'operations', summary: 's', vars: z.object({}), plays: [play('Operations', { hosts: 'n1' }, [
  step('Facts', facts()),
  step('Is systemd', { readOnly: true, run: ctx => { if (ctx.registered('facts').serviceMgr !== 'systemd') throw new Error('it is not systemd') } }),
  step('Write a unit', {
    check: ctx => ctx.files.exists('/etc/systemd/system/rk.service'),
    run: ctx => ctx.files.write('/etc/systemd/system/rk.service', '${unit}'),
    rollback: ctx => ctx.$\`rm -f /etc/systemd/system/rk.service; systemctl daemon-reload\`.then(() => {}),
  }),
  step('Start it', service({ name: 'rk', state: 'started', enabled: true, daemonReload: true })),
  step('Mask another', service({ name: 'rk-none', masked: true })),
  step('Is so', { readOnly: true, run: ctx => ctx.$\`systemctl is-active rk; systemctl is-enabled rk; [ "$(systemctl is-enabled rk-none)" = masked ]\` }),
  step('Add a user', user({ name: 'rk', groups: ['adm'], shell: '/bin/sh' })),
  step('Let somebody in', authorizedKey({ user: 'rk', key: '${key}' })),
  step('Wait for ssh', waitForPort({ port: 22, timeout: 20_000 })),
])] })
`

/** Rehearses them on the node `n1` of a lab. */
export async function rehearseOperations(t: ExecutionContext, name: string): Promise<void> {
  const file = join(temporaryFolder('lab-operations'), 'operations.ts')
  writeFileSync(file, playbook)
  const of = rehearse(file, { inventory: lab.inventoryPath(name) })
  try {
    const first = await of.run()
    t.true(first.ok, first.errors)
    const made = ['write-a-unit', 'start-it', 'mask-another', 'add-a-user', 'let-somebody-in']
    t.deepEqual(
      first.changed.map(line => line.replace(' on n1', '')),
      made,
    )
    const files = await of.files('n1')
    t.is(await files.readText('/home/rk/.ssh/authorized_keys'), `${key}\n`)
    const second = await of.run()
    t.true(second.ok, second.errors)
    t.deepEqual(second.changed, [])
    // The last run that changed something is the first one.
    const undone = await of.rollback()
    t.true(undone.ok, undone.errors)
    t.false(await files.exists('/home/rk'))
    const left = 'systemctl is-active rk; systemctl is-enabled rk-none; getent passwd rk; :'
    t.is((await lab.exec(name, 'n1', ['sh', '-c', left])).trim(), 'inactive')
  } finally {
    of.close()
  }
}
