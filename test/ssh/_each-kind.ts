// Tests that every kind of connection must pass: over ssh2, and over the system's ssh, to one sshd that they share.
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { sshdMissing, startSshd, type TestSshd } from './sshd.ts'

/** An sshd, and the settings for a connection to it of the kind that is tested. */
export type WithSshd = ExecutionContext<{ sshd: TestSshd }>

/**
 * Declares tests, once for each kind of connection. Where this machine has no sshd, one line says so.
 * @param what is then not tested
 * @param configuration of the sshd
 */
export function forEachKind(what: string, configuration: readonly string[] = []) {
  const missing = sshdMissing()
  const test = anyTest as TestFn<{ sshd: TestSshd }>
  if (missing) test.skip(`${what} not tested: ${missing}`, () => {})
  let shared: TestSshd | undefined
  test.before(async () => {
    if (!missing) shared = await startSshd(configuration)
  })
  test.after.always(() => shared?.stop())
  return (title: string, body: (t: WithSshd) => Promise<void>): void => {
    for (const kind of ['ssh', 'openssh'] as const) {
      const declare = missing ? test.skip : test.serial
      declare(`${kind}: ${title}`, async t => {
        t.context.sshd = { ...shared!, settings: { ...shared!.settings, kind } }
        await body(t)
      })
    }
  }
}
