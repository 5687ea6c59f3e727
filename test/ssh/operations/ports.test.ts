// `waitForPort` over an sshd: the host itself connects, by the connection that is there; a host that forwards nothing says so at once.
import { connect } from '../../../lib/connection/connect.ts'
import { type WaitForPortOptions, waitForPort } from '../../../lib/operations/system/wait-for-port.ts'
import { trial } from '../../operations/_operation.ts'
import { openPorts } from '../../operations/_ports.ts'
import { forEachKind } from '../_each-kind.ts'
import { startSshd } from '../sshd.ts'

const real = forEachKind('waiting for ports is')

real('a port is seen from the host, open, closed and busy', async t => {
  const { settings } = t.context.sshd
  const connection = await connect('h1', { ...settings, connectTimeout: 60 })
  const ports = await openPorts()
  try {
    const on = trial(connection, settings)
    const { open, closed, busy } = ports.numbers
    const isSo = async (options: WaitForPortOptions) => (await on.plan(waitForPort(options))).length === 0
    t.true(await isSo({ port: open }))
    t.false(await isSo({ port: open, state: 'stopped' }))
    t.true(await isSo({ port: closed, state: 'absent' }))
    t.false(await isSo({ port: closed }))
    t.false(await isSo({ port: busy, state: 'drained' }))
  } finally {
    ports.close()
    connection.close()
  }
})

real('a host whose sshd forwards nothing is not waited for', async t => {
  const sshd = await startSshd(['AllowTcpForwarding no'])
  const settings = { ...sshd.settings, kind: t.context.sshd.settings.kind }
  const connection = await connect('h1', { ...settings, connectTimeout: 60 })
  try {
    await t.throwsAsync(trial(connection, settings).plan(waitForPort({ port: sshd.port })), {
      code: 'connection.forward-prohibited',
    })
  } finally {
    connection.close()
    await sshd.stop()
  }
})
