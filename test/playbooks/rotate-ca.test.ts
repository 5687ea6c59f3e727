// The steps of rotate-ca, by the ids that journals know them by: a run that was begun by an earlier rekey is gone on with by these.
import { join } from 'node:path'
import test from 'ava'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { stepsOf } from '../../lib/playbook/steps.ts'

const { playbook } = await loadPlaybook(join(import.meta.dirname, '../../playbooks/rotate-ca.ts'))
const steps = playbook.plays.flatMap(play => stepsOf(play))
const wayBack = playbook.plays.flatMap(({ rollback = [] }) => rollback)

/**
 * Those of 0.1.0. More may come between them; none may go, be called otherwise, or change its place. But for one that only looks: how much
 * room is needed is known once it was read what lies there.
 */
const known = `
  read-the-clock compare-the-clocks read-the-certificates check-the-space-for-backups check-etcd check-the-members-of-etcd check-the-nodes
  plan-the-certificates ask-vault back-up-keys-and-configuration back-up-the-token-secrets-of-every-namespace save-a-snapshot-of-etcd
  mount-and-tune-the-pki-engines note-issuers generate-the-new-root-cas write-the-roles make-a-policy-and-a-short-lived-token-for-this-run
  make-a-new-service-account-key-pair issue-certificates verify-what-is-staged start-the-probes note-credentials prepare-kubelets
  wait-for-prepared-kubelets swap-certificates restart-etcd wait-for-the-quorum-of-etcd restart-the-api-server
  wait-until-the-api-server-answers restart-the-controller-manager-and-the-scheduler restart-the-kubelet wait-until-every-node-is-ready
  wait-until-the-controller-manager-and-the-scheduler-run wait-for-root-ca regenerate-tokens update-copies restart-kube-proxy
  wait-until-kube-proxy-has-written-its-rules restart-the-pod-network restart-coredns restart-workloads verify-endpoints verify-refusals
  verify-pods verify-exec verify-secrets the-canaries-are-well fetch-the-new-admin-kubeconfig`
const knownBack = `
  undo-check-files undo-prepare-kubelet undo-wait-for-prepared-kubelet undo-swap undo-etcd undo-quorum undo-api-server undo-answers
  undo-controllers undo-kubelet undo-ready undo-controllers-run undo-root-ca undo-tokens undo-copies undo-kube-proxy undo-rules
  undo-pod-network undo-workloads undo-verify-endpoints undo-verify-admin undo-verify-pods undo-verify-exec undo-verify-secrets
  undo-verify-canaries`
const words = (text: string) => text.split(/\s+/).filter(Boolean)

test('a journal of before finds its steps, in their order', t => {
  const ids = words(known)
  t.deepEqual(
    steps.map(({ id }) => id).filter(id => ids.includes(id)),
    ids,
  )
})

test('so does one of a run that was being undone', t => {
  const ids = words(knownBack)
  t.deepEqual(
    wayBack.map(({ id }) => id).filter(id => ids.includes(id)),
    ids,
  )
})

/** Those that swap everything at once. */
const atOnce = ['rotate-ca', 'recreate-credentials']
const load = async (name: string) =>
  (await loadPlaybook(join(import.meta.dirname, `../../playbooks/${name}.ts`))).playbook.plays

for (const name of atOnce) {
  test(`${name}: what changes something after the swap is undone with it, and all before it by itself or not at all`, async t => {
    const all = (await load(name)).flatMap(play => stepsOf(play))
    const swap = all.findIndex(({ id }) => id === 'swap-certificates')
    const unsaid = all.filter(({ readOnly, rollback, irreversible, undoneWith }, index) => {
      if (readOnly || index === swap) return false
      if (rollback || irreversible !== undefined) return false
      return index < swap || undoneWith !== 'swap-certificates'
    })
    t.deepEqual(
      unsaid.map(({ id }) => id),
      [],
    )
  })

  test(`${name}: a check changes nothing: each step that would says what it would do`, async t => {
    const all = (await load(name)).flatMap(play => stepsOf(play))
    t.deepEqual(
      all.filter(({ readOnly, plan }) => !readOnly && !plan).map(({ id }) => id),
      [],
    )
  })
}

test('recreate-credentials: the first step says what users will notice, and nothing is made or swapped without the name and the backups', async t => {
  const [first, ...rest] = (await load('recreate-credentials')).flatMap(play => stepsOf(play))
  const told: string[] = []
  const ctx = {
    ...{ check: false, log: (line: string) => told.push(line), registered: () => undefined },
    vars: { cluster_name: 'prod', confirm: undefined as string | undefined },
  }
  await t.throwsAsync(async () => first?.run(ctx as never), { code: 'recreate.not-confirmed' })
  t.regex(told.join('\n'), /^This is the disruptive way: .*\n- The API answers nobody /)
  await t.notThrowsAsync(async () => first?.run({ ...ctx, check: true } as never))
  for (const id of ['generate-the-new-root-cas', 'swap-certificates']) {
    const one = rest.find(step => step.id === id)
    await t.throwsAsync(async () => one?.run(ctx as never), { code: 'recreate.not-confirmed' }, id)
    const named = { ...ctx, vars: { ...ctx.vars, confirm: 'prod' } }
    await t.throwsAsync(async () => one?.run(named as never), {
      code: 'recreate.no-backup',
      message: /: back-up-the-hosts, back-up-the-tokens, back-up-etcd$/,
    })
  }
})
