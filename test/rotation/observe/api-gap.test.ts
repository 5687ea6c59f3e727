// What a run says of how long the API did not answer: where it can't be known, that is said before the first change, and never counted.
import { createServer } from 'node:net'
import test from 'ava'
import type { Question } from '../../../lib/kubernetes/probes/api-prober.ts'
import { probeReport } from '../../../lib/kubernetes/probes/probes.ts'
import { firstChange } from '../../../lib/rotation/given/context.ts'
import { observe, report } from '../../../lib/rotation/index.ts'

const masters = ['10.0.0.1', '10.0.0.2'].map((address, index) => ({
  ...{ name: `m${index + 1}`, groups: ['masters'], connection: { address } },
}))
const balancer = 'https://lb.example.com:6443'
const context = (api: string, more: object = {}) =>
  ({
    ...{ vars: { api_server: api }, hosts: () => masters, registered: () => undefined, mode: 'run', check: false },
    timeline: { began: 0, plays: [{ title: 'Swap', milliseconds: 2_000 }], milestones: new Map([[firstChange, 0]]) },
    ...more,
  }) as never

test('a load balancer is asked where there is one, and a master’s own server is none', t => {
  t.is(observe.probedAddresses(context(`${balancer}/`)).endpoint, balancer)
  const { endpoint, servers } = observe.probedAddresses(context('https://10.0.0.2:6443/'))
  t.is(endpoint, undefined)
  t.deepEqual(servers, [
    ['m1', 'https://10.0.0.1:6443'],
    ['m2', 'https://10.0.0.2:6443'],
  ])
})

test('an API that can not be resolved or reached from here is told before anything is changed, and stops nothing', async t => {
  const open = createServer(socket => socket.destroy())
  await new Promise<void>(resolve => open.listen(0, '127.0.0.1', resolve))
  const { port } = open.address() as { port: number }
  const closed = createServer()
  await new Promise<void>(resolve => closed.listen(0, '127.0.0.1', resolve))
  const { port: nobodys } = closed.address() as { port: number }
  await new Promise(resolve => closed.close(resolve))
  t.teardown(() => open.close())
  const local = [{ name: 'm1', groups: ['masters'], connection: { address: '127.0.0.1' } }]
  const listening = (at: number) => ({
    ...{ host: 'm1', certificates: {}, kubeconfigs: {} },
    layout: {
      components: { 'kube-apiserver': { endpoints: [{ role: 'serving', address: '127.0.0.1', port: at }] } },
    },
  })
  const told = async (api: string, at: number) => {
    const said: string[] = []
    const log = (text: string) => void said.push(text)
    const more = { hosts: () => local, log, registered: () => listening(at) }
    await observe.lookForTheApi.run(context(api, more))
    return said.map(line => line.replaceAll(/\d{4,}/g, 'PORT').replace(/\(.*?\)/, '(WHY)'))
  }
  t.deepEqual(await told(`https://127.0.0.1:${port}`, port), [])
  t.deepEqual(await told('https://nobody.invalid:6443', port), [
    "api_server: https://nobody.invalid:PORT can't be reached from here (WHY): its gap will not be known",
  ])
  t.deepEqual(await told(`https://127.0.0.1:${port}`, nobodys), [
    "m1: https://127.0.0.1:PORT can't be reached from here (WHY): its gap will not be known",
  ])
})

const asked = (...answers: boolean[]): Question[] =>
  answers.map((answered, index) => ({
    ...{ at: index * 100, kind: 'read', answered },
    ...(answered ? {} : { reason: 'ENOTFOUND' }),
  }))
const always = asked(true, true, true, true)
const standing = (questions: Question[]) =>
  questions.flatMap(one => ['kept', 'http2', 'watch'].map(over => ({ ...one, over }))) as never

const rowsOf = async (questions: Record<string, Question[]>, stands: boolean, began = 0, change = 0) => {
  const all = new Map(Object.entries(questions))
  const stood = stands ? new Map([...all].map(([address, one]) => [address, standing(one)])) : undefined
  const since = began + change
  const probes = { stop: async () => probeReport(all, { standing: stood, since }), inside: new Map() }
  const timeline = { began, plays: [], milestones: new Map([[firstChange, change]]) }
  const [api] = await report.noticed(context(balancer, { probes, timeline, on: async () => ({}) }))
  return Object.fromEntries(api?.rows ?? [])
}
const servers = { 'https://10.0.0.1:6443': always, 'https://10.0.0.2:6443': always }

test('where nobody ever answered, nothing is known, and none of it counts as calls that failed', async t => {
  const rows = await rowsOf({ [balancer]: asked(false, false, false, false), ...servers }, true)
  t.is(rows['lb.example.com:6443'], 'not known: nobody answered, from the beginning (ENOTFOUND)')
  t.regex(rows['in all'] ?? '', /^0 of \d+ calls failed$/)
})

test('one that answered before the first change, and never since, was away all that time', async t => {
  const rows = await rowsOf({ [balancer]: asked(true, false, false, false), ...servers }, false, 0, 50)
  t.regex(rows['lb.example.com:6443'] ?? '', /^reads longest .* \(3 of 3 failed\): 3 ENOTFOUND/)
})

test('a run that was gone on with says what of the gap it did not see; one that saw all of it says nothing', async t => {
  t.is(
    (await rowsOf(servers, false, 0, -20_000))['not seen'],
    'the 20.0 s from the first change until this part of the run',
  )
  t.is((await rowsOf(servers, false))['not seen'], undefined)
})

test('a way back tells its phases and its gap, too', async t => {
  const probes = { stop: async () => probeReport(new Map(Object.entries(servers))), inside: new Map() }
  const more = {
    ...{ probes, mode: 'rollback', folder: '/run', run: 'r', on: async () => ({}) },
    vars: { api_server: balancer, backup_directory: '/backups', look_around: [] },
  }
  const sections = await report.whole(context(balancer, more))
  t.deepEqual(
    sections.map(({ title }) => title),
    ['Phases', 'API gap: reads and writes that failed', 'Where to look'],
  )
  // Tokens that it could not write anew are told; those of the way there are nobody's any more.
  const failed: Record<string, string[]> = {
    'undo-tokens': ['shop/deploy: it is gone'],
    'regenerate-tokens': ['other'],
  }
  const registered = (id: string) => failed[id] && { failed: failed[id] }
  t.deepEqual((await report.whole(context(balancer, { ...more, registered })))[2], {
    title: 'Out of the ordinary',
    rows: [['tokens that are refused', 'shop/deploy: it is gone']],
  })
})
