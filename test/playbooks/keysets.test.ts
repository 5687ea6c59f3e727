// The stages of a graceful rotation: each can be looked at before it is run, and undone after it.
import { join } from 'node:path'
import test from 'ava'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { play, type StepContext, step } from '../../lib/playbook/model.ts'
import { stepsOf } from '../../lib/playbook/steps.ts'
import { lookStep } from '../../lib/rotation/keysets/state.ts'
import * as whole from '../../lib/rotation/keysets/whole/ends.ts'
import { inStage } from '../../lib/rotation/keysets/whole/in-stage.ts'

for (const name of ['stage', 'promote', 'distrust', 'trust', 'finish']) {
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
    t.deepEqual(keysetsOf('kubernetes-ca, service-account'), ['kubernetes-ca', 'service-account'])
    t.regex(String(keysetsOf('kubernetes')), /front-proxy-ca/)
    for (const all of [undefined, 'all', ['all']]) t.is(keysetsOf(all), 'all' as never, 'all that there are')
    t.regex(String(keysetsOf('all,etcd-ca')), /all, or some of kubernetes-ca/)
  })
}

for (const name of ['stage', 'promote', 'distrust']) {
  test(`${name}-keysets asks who is a member of etcd before it changes anything, where its CA is chosen, once`, async t => {
    const { playbook } = await loadPlaybook(join(import.meta.dirname, `../../playbooks/${name}-keysets.ts`))
    const steps = playbook.plays.flatMap(play => stepsOf(play))
    const asked = steps.filter(({ title }) => /^Check (the members of )?etcd/.test(title))
    t.is(asked.length, 2)
    for (const one of asked) {
      t.true(steps.indexOf(one) < steps.findIndex(({ readOnly }) => !readOnly))
      t.true(one.remember, 'a run that is gone on with may be restarting one')
      const isAsked = (...keysets: string[]) => one.when?.({ vars: { keysets } } as never)
      t.deepEqual([isAsked('kubernetes-ca', 'etcd-ca'), isAsked('front-proxy-ca')], [true, false])
    }
  })
}

for (const name of ['stage', 'promote', 'distrust', 'trust']) {
  test(`${name}-keysets asks whether the only API server may be away before it changes anything`, async t => {
    const { playbook } = await loadPlaybook(join(import.meta.dirname, `../../playbooks/${name}-keysets.ts`))
    const steps = playbook.plays.flatMap(play => stepsOf(play))
    const asked = steps.findIndex(({ title }) => title === 'See whether the API may be away, where it must be')
    t.true(asked >= 0 && asked < steps.findIndex(({ readOnly }) => !readOnly), `${asked}`)
  })
}

const { playbook: rotate } = await loadPlaybook(join(import.meta.dirname, '../../playbooks/rotate-keysets.ts'))
const wholeSteps = rotate.plays.flatMap(play => stepsOf(play))

test('rotate-keysets is all stages, each step under a name of its own, and undone as there', t => {
  const ids = wholeSteps.map(({ id }) => id)
  t.is(new Set(ids).size, ids.length)
  for (const id of ['trust-the-new-cas', 'promote-put-the-certificates-in-place', 'distrust-distrust-the-old-cas'])
    t.true(ids.includes(id), id)
  t.is(
    wholeSteps.filter(({ title }) => title.startsWith('Ask the API in all ways')).length,
    1,
    'the API is asked from the first stage to the last',
  )
  t.deepEqual(
    wholeSteps
      .filter(({ readOnly, rollback, irreversible }) => !readOnly && !rollback && irreversible === undefined)
      .map(({ id }) => id),
    [],
  )
})

/** Whether each step of a stage is left out, by the variables of the run. */
const leftOut = async (stage: string, until: string, check = false) => {
  const context = { vars: { until, soak: 0 }, check, timeline: { milestones: new Map() }, registered: () => undefined }
  const own = wholeSteps.filter(({ id }) => id.startsWith(`${stage}-`) && id.includes('read-the-clock'))
  return Promise.all(own.map(async ({ when }) => !(await when?.(context as never))))
}

test('rotate-keysets tells how long each stage took, without what lies between them', t => {
  const plays = [
    ...['Trust the new CAs', 'Promote: Certificates', whole.betweenTitle, 'Distrust: May it begin?'],
    'Promote: Is it promoted?',
  ].map((title, index) => ({ title, milliseconds: 1_000 * 10 ** index }))
  t.deepEqual(whole.stageTimes({ timeline: { plays } } as never).rows, [
    ['stage', '1.0 s'],
    ['promote', '2 h 46 m'],
    ['distrust', '16 m 40 s'],
  ])
})

test('rotate-keysets ends after the stage that it is told, and a check looks at the first alone', async t => {
  t.deepEqual(await leftOut('promote', 'staged'), [true])
  t.deepEqual(await leftOut('promote', 'promoted'), [false])
  t.deepEqual(await leftOut('distrust', 'promoted'), [true])
  t.deepEqual(await leftOut('distrust', 'distrusted'), [false])
  t.deepEqual(await leftOut('promote', 'distrusted', true), [true])
})

test('a stage within a longer run sees what its own steps returned, and keeps backups of its own', async t => {
  const asked: string[] = []
  const seen: Record<string, unknown>[] = []
  const definition = step<StepContext<unknown>>('Look', {
    run: ctx => {
      ctx.registered('plan-the-certificates', 'm1')
      ctx.milestone('first change')
      seen.push({ run: ctx.run, folder: ctx.folder, changed: ctx.timeline.milestones.has('first change') })
    },
  })
  const [inPromote] = inStage('promote', [play('Looking', { hosts: 'all' }, [definition])], () => true)
  const milestones: string[] = []
  const context = (...names: string[]) => ({
    ...{ run: 'run-1', folder: '/runs/run-1' },
    timeline: { plays: [], milestones: new Map(names.map(name => [name, 1])) },
    registered: (id: string, host?: string) => asked.push(`${id} ${host}`),
    milestone: (name: string) => milestones.push(name),
  })
  const [own] = stepsOf(inPromote!)
  await own!.run(context('first change') as never)
  await own!.run(context('promote-first change') as never)
  t.deepEqual(asked[0], 'promote-plan-the-certificates m1')
  t.deepEqual(milestones.slice(0, 2), ['first change', 'promote-first change'])
  t.deepEqual(seen[0], { run: 'run-1-promote', folder: '/runs/run-1/backups/promote', changed: false })
  t.true(seen[1]?.['changed'], 'of its own first change it knows')
})

test('rotate-keysets stages nothing where a rotation rests after its promotion', async t => {
  const stages = wholeSteps.filter(
    ({ id }) => id === 'trust-the-new-cas' || id === 'see-that-no-other-rotation-of-these-keysets-rests',
  )
  t.is(stages.length, 2)
  const context = (until: string, ...states: string[]) => ({
    ...{ vars: { until, soak: 0 }, check: false, host: { name: 'm1' } },
    registered: (id: string) =>
      id === lookStep
        ? [
            {
              authority: 'front-proxy',
              items: states.map(state => ({ state, issuer: 'i', kept: true })),
              bundles: { m1: { '/pki/ca.crt': [] } },
            },
          ]
        : undefined,
  })
  const gone = async (until: string, ...states: string[]) =>
    Promise.all(stages.map(async ({ when }) => (await when?.(context(until, ...states) as never)) ?? true))
  t.deepEqual(await gone('distrusted', 'primary', 'trusted'), [false, false])
  t.deepEqual(await gone('distrusted', 'primary', 'distrusted'), [true, true])
  t.deepEqual(await gone('distrusted', 'primary', 'staged', 'trusted'), [true, true], 'another rotation is refused')
  t.deepEqual(await gone('staged', 'primary', 'trusted'), [true, true], 'it can’t be staged: that is refused')
})
