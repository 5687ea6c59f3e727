// Operations on what a host runs and is do what Ansible's modules do in the same cases: all over the local connection, some to a real sshd.
import test from 'ava'
import { connect } from '../../../lib/connection/connect.ts'
import { authorizedKey } from '../../../lib/operations/system/authorized-key.ts'
import { command } from '../../../lib/operations/system/command.ts'
import { service } from '../../../lib/operations/system/service.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { standInEnvironment } from '../../operations/_cases.ts'
import { casesOf, runCases } from '../../operations/_run-cases.ts'
import { sshdMissing, startSshd } from '../sshd.ts'

const operations: Readonly<Record<string, (options: never) => StepDefinition>> = {
  authorizedKey,
  command,
  service,
}

const settings = { kind: 'local' } as never

for (const [name, stepOf] of Object.entries(operations)) {
  test.serial(`${name}: as Ansible, on this machine`, async t => {
    const file = casesOf(name)
    const { cases } = file
    t.true(cases.length >= 10)
    const connection = await connect('h1', settings)
    await runCases(
      t,
      connection,
      settings,
      cases,
      options => stepOf(options),
      place => standInEnvironment(file, place),
    )
    connection.close()
  })
}

const missing = sshdMissing()
const real = missing ? test.skip : test.serial

real('each of them as Ansible, to an sshd', async t => {
  const sshd = await startSshd()
  const connection = await connect('h1', { ...sshd.settings, connectTimeout: 60 })
  try {
    for (const [name, stepOf] of Object.entries(operations)) {
      const { cases, standIns } = casesOf(name)
      // An sshd gives its commands an environment of its own.
      if (standIns) continue
      const few = cases.filter((_, index) => index % 8 === 0)
      await runCases(t, connection, sshd.settings, few, options => stepOf(options))
    }
  } finally {
    connection.close()
    await sshd.stop()
  }
})
