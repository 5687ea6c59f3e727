// The steps of rotate-ca, by the ids that journals know them by: a run that was begun by an earlier rekey is gone on with by these.
import { join } from 'node:path'
import test from 'ava'
import { begin, isBegun } from '../../lib/kubernetes/begun.ts'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { stepsOf } from '../../lib/playbook/steps.ts'
import { temporaryFolder } from '../_temporary.ts'

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

/** What a step of recreate-credentials goes by, where the run has done nothing else. */
const alone = {
  ...{
    check: false,
    log: () => {},
    registered: () => undefined,
    folder: temporaryFolder('recreate'),
    host: { name: 'm1' },
  },
  timeline: { milestones: new Map<string, number>() },
  vars: { cluster_name: 'prod', confirm: undefined as string | undefined },
}
const named = { ...alone, vars: { ...alone.vars, confirm: 'prod' } }

test('recreate-credentials: the first step says what users will notice', async t => {
  const [first] = (await load('recreate-credentials')).flatMap(play => stepsOf(play))
  const told: string[] = []
  const ctx = { ...alone, log: (line: string) => told.push(line) }
  await t.throwsAsync(async () => first?.run(ctx as never), { code: 'recreate.not-confirmed' })
  t.regex(told.join('\n'), /^This is the disruptive way: .*\n- The API answers nobody /)
  await t.notThrowsAsync(async () => first?.run({ ...ctx, check: true } as never))
  await t.notThrowsAsync(async () => first?.run(named as never))
})

test('recreate-credentials: no step changes anything without the name, the backups, and what comes before it, whichever are chosen', async t => {
  const changing = (await load('recreate-credentials')).flatMap(play => stepsOf(play)).filter(one => !one.readOnly)
  const codes = async (ctx: object) => {
    const all = await Promise.all(
      changing.map(async ({ id, run }) => {
        const code = await Promise.resolve()
          .then(() => run(ctx as never))
          .then(
            () => 'done',
            (error: { code?: string }) => error.code,
          )
        return [id, code] as const
      }),
    )
    return new Map(all)
  }
  t.deepEqual([...new Set((await codes(alone)).values())], ['recreate.not-confirmed'])
  const isBackup = (id: string) => id.startsWith('back-up-')
  const swap = changing.findIndex(({ id }) => id === 'swap-certificates')
  const [backups, later] = [changing.filter(({ id }) => isBackup(id)), changing.filter(({ id }) => !isBackup(id))]
  t.is(backups.length, 3)
  const unsaved = await codes(named)
  t.deepEqual([...new Set(later.map(({ id }) => unsaved.get(id)))], ['recreate.no-backup'])
  // The archive of another host is none of this one's.
  const others = (id: string, host?: string) => (isBackup(id) && host !== 'm1' ? {} : undefined)
  const elsewhere = await codes({ ...named, registered: others })
  t.deepEqual([...new Set(later.map(({ id }) => elsewhere.get(id)))], ['recreate.no-backup'])
  const saved = await codes({ ...named, registered: (id: string) => (isBackup(id) ? {} : undefined) })
  const after = changing.slice(swap + 1).map(({ id }) => id)
  t.true(after.includes('replace-every-other-pod') && after.includes('regenerate-tokens'))
  t.deepEqual([...new Set(after.map(id => saved.get(id)))], ['recreate.no-swap'])
  // What comes right after the swap notes that it was begun with, before it does anything: the way back goes by it.
  const swapped = {
    ...{ ...named, folder: temporaryFolder('recreate') },
    registered: (id: string) => (isBackup(id) ? {} : undefined),
    timeline: { milestones: new Map([['first change', 0]]) },
  }
  const begins = async (index: number) => {
    await t.throwsAsync(async () => changing[index]?.run(swapped as never))
    return isBegun(swapped, 'after-the-swap')
  }
  t.deepEqual([await begins(swap), await begins(swap + 1)], [false, true])
})

test('recreate-credentials: the way back takes the name, too, as a word of its own', async t => {
  const [first] = (await load('recreate-credentials')).flatMap(({ rollback = [] }) => rollback)
  t.true(first?.readOnly)
  await t.throwsAsync(async () => first?.run(named as never), {
    code: 'recreate.not-confirmed',
    message: /prod may be interrupted once more/,
  })
  await t.notThrowsAsync(async () =>
    first?.run({ ...alone, vars: { ...alone.vars, confirm_rollback: 'prod' } } as never),
  )
})

test('recreate-credentials: the way back replaces pods only where API servers may have had the new key', async t => {
  const back = (await load('recreate-credentials')).flatMap(({ rollback = [] }) => rollback)
  const folder = temporaryFolder('recreate')
  const pods = ['note-the-pods-back', 'replace-the-pod-network-back', 'undo-coredns', 'replace-every-other-pod-back']
  const chosen = async () => {
    const workloads = { dns: { kind: 'Deployment', namespace: 'kube-system', name: 'coredns' } }
    const ctx = { ...alone, folder, registered: () => ({ workloads, absent: [] }) }
    const all = await Promise.all(
      pods.map(async id => ((await back.find(one => one.id === id)?.when?.(ctx as never)) === true ? [id] : [])),
    )
    return all.flat()
  }
  t.deepEqual(await chosen(), [])
  await begin({ folder }, 'after-the-swap')
  t.deepEqual(await chosen(), pods)
})

test('recreate-credentials: what was not well at the end of the way there is told of it alone, and not of the way back', async t => {
  const { playbook: recreate } = await loadPlaybook(
    join(import.meta.dirname, '../../playbooks/recreate-credentials.ts'),
  )
  const titles = async (mode: string) => {
    const ctx = {
      ...{ ...alone, mode, run: 'r', hosts: () => [], probes: { stop: async () => undefined } },
      registered: (id: string) => (id === 'verify-that-it-is-well' ? ['pods (shop): not well'] : undefined),
      timeline: { began: 0, plays: [], milestones: new Map([['first change', 0]]) },
      vars: { backup_directory: '/backups', look_around: [] },
    }
    return (await recreate.report?.(ctx as never))?.map(({ title }) => title)
  }
  const unwell = 'Not well at the end, and not waited for'
  t.true((await titles('run'))?.includes(unwell))
  t.deepEqual(await titles('rollback'), ['Phases', 'Where to look'])
})

test('recreate-credentials makes the key of service accounts anew, whatever the inventory says for rotate-ca', async t => {
  const { playbook } = await loadPlaybook(join(import.meta.dirname, '../../playbooks/recreate-credentials.ts'))
  const given = {
    vault_addr: 'https://vault',
    vault_token_file: '/token',
    cluster_name: 'prod',
    api_server: 'https://x:6443',
  }
  for (const said of [{}, { rotate_service_account_keys: false }]) {
    const vars = (await playbook.vars.parseAsync({ ...given, ...said })) as Record<string, unknown>
    t.is(vars['rotate_service_account_keys'], true)
  }
})
