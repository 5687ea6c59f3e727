// Operations do what ansible-core's modules do in the same cases: all over the local connection, some to a real sshd. Each is asked, done, done
// again and undone.
import test from 'ava'
import { connect } from '../../../lib/connection/connect.ts'
import { archive } from '../../../lib/operations/files/archive.ts'
import { copy } from '../../../lib/operations/files/copy.ts'
import { fetch } from '../../../lib/operations/files/fetch.ts'
import { file } from '../../../lib/operations/files/file.ts'
import { unarchive } from '../../../lib/operations/files/unarchive.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { blockInFile, lineInFile, replaceInFile, template } from '../../../lib/text-operations.ts'
import { casesOf, runCases } from '../../operations/_run-cases.ts'
import { sshdMissing, startSshd } from '../sshd.ts'

const operations: Readonly<Record<string, (options: never) => StepDefinition>> = {
  archive,
  blockInFile,
  copy,
  fetch,
  file,
  lineInFile,
  replaceInFile,
  template,
  unarchive,
}

const settings = { kind: 'local' } as never

for (const [name, stepOf] of Object.entries(operations)) {
  test.serial(`${name}: as ansible-core, on this machine`, async t => {
    const file = casesOf(name)
    t.true(file.cases.length >= 10)
    const connection = await connect('h1', settings)
    await runCases(t, connection, settings, file, options => stepOf(options))
    connection.close()
  })
}

const missing = sshdMissing()
const real = missing ? test.skip : test.serial

real('each of them as ansible-core, to an sshd', async t => {
  const sshd = await startSshd()
  const connection = await connect('h1', { ...sshd.settings, connectTimeout: 60 })
  try {
    for (const [name, stepOf] of Object.entries(operations)) {
      const file = casesOf(name)
      const few = { ...file, cases: file.cases.filter((_, index) => index % 8 === 0) }
      await runCases(t, connection, sshd.settings, few, options => stepOf(options))
    }
  } finally {
    connection.close()
    await sshd.stop()
  }
})
