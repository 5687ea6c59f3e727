// The stages of a graceful rotation: each can be looked at before it is run, and undone after it.
import { join } from 'node:path'
import test from 'ava'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { stepsOf } from '../../lib/playbook/steps.ts'

for (const name of ['stage', 'promote', 'distrust', 'trust']) {
  const { playbook } = await loadPlaybook(join(import.meta.dirname, `../../playbooks/${name}-keysets.ts`))
  const steps = playbook.plays.flatMap(play => stepsOf(play))

  test(`each step of ${name}-keysets that changes something is undone, or says why not`, t => {
    t.deepEqual(
      steps
        .filter(({ readOnly, rollback, irreversible }) => !readOnly && !rollback && irreversible === undefined)
        .map(({ id }) => id),
      [],
    )
  })

  test(`a check of ${name}-keysets changes nothing: each step that would says what it would do`, t => {
    t.deepEqual(
      steps.filter(({ readOnly, plan }) => !readOnly && !plan).map(({ id }) => id),
      [],
    )
  })

  test(`${name}-keysets goes over what it is told to, and over nothing that it can't`, t => {
    const keysetsOf = (keysets?: unknown) => {
      const { success, error, data } = playbook.vars.safeParse({
        ...{
          vault_addr: 'https://vault',
          vault_token_file: '/t',
          cluster_name: 'c',
          api_server: 'https://api',
          keysets,
        },
      })
      return success ? (data as { keysets: string[] }).keysets : error.issues.map(({ message }) => message).join()
    }
    t.deepEqual(keysetsOf('front-proxy-ca'), ['front-proxy-ca'])
    t.deepEqual(keysetsOf(['front-proxy-ca']), ['front-proxy-ca'])
    t.regex(
      String(keysetsOf('etcd-ca,service-account')),
      /^etcd-ca and service-account can't be rotated gracefully yet/,
    )
    t.regex(String(keysetsOf()), /say which, by -e keysets=/)
  })
}
