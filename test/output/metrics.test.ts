// The file of `--metrics`, read as the textfile collector of node_exporter reads it: all or nothing, and by everybody.
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { openView } from '../../lib/output/open-view.ts'
import type { RunEvent, RunEventBody } from '../../lib/run/events.ts'
import { searched } from '../../lib/run/journal/event-text.ts'
import { temporaryFolder } from '../_temporary.ts'
import { begun, recorded } from './_scenarios.ts'

/** What a file in the text format holds, by series. Throws where the format is broken, or the collector would refuse the whole of it. */
export function seriesIn(text: string): Map<string, number> {
  if (!text.endsWith('\n')) throw new Error('it does not end in a line')
  const found = new Map<string, number>()
  const closed = new Set<string>()
  let [name, typed] = ['', false]
  for (const line of text.slice(0, -1).split('\n')) {
    const help = /^# HELP ([a-zA-Z_:][\w:]*) ((?:[^\\]|\\\\|\\n)*)$/.exec(line)
    if (help) {
      closed.add(name)
      ;[name, typed] = [help[1]!, false]
      if (closed.has(name)) throw new Error(`${name} is in two places`)
      continue
    }
    if (line === `# TYPE ${name} gauge`) {
      typed = true
      continue
    }
    const sample =
      /^([a-zA-Z_:][\w:]*)\{((?:[a-zA-Z_]\w*="(?:[^\\"]|\\\\|\\"|\\n)*",?)*)\} (-?[\d.]+(?:e[+-]?\d+)?)$/.exec(line)
    if (!sample || sample[1] !== name || !typed) throw new Error(`no sample of ${name}: ${line}`)
    const series = `${name}{${sample[2]}}`
    if (found.has(series)) throw new Error(`${series} comes twice`)
    found.set(series, Number(sample[3]))
  }
  return found
}

const nothing = { write: () => true } as unknown as NodeJS.WriteStream

async function written(file: string, events: readonly RunEvent[]): Promise<string> {
  const view = await openView({ output: 'json', metrics: file }, nothing, {})
  for (const event of events) view.event(searched(event, { text: one => one, line: (_, one) => one, ended: () => {} }))
  if (!(await view.close())) throw new Error('it was not written')
  return readFileSync(file, 'utf8')
}

const [done, failed] = [recorded(), recorded({ outcome: 'failed' })]

const report = (metrics: readonly object[]): RunEvent =>
  ({ kind: 'run.report', at: 1, sections: [{ title: 'x', rows: [], metrics }] }) as RunEventBody as RunEvent

test('it says how the run ended and what the report counts, in the format of Prometheus, whatever names hold', async t => {
  const file = join(temporaryFolder('metrics'), 'rekey.prom')
  const left = (component: string, value: number, help = 'How long it holds.') => ({
    ...{ name: 'rekey_certificate_of_mine', help, value },
    labels: { host: 'm1', component },
  })
  const text = await written(file, [
    ...failed.slice(0, -1),
    report([left('etcd', 7), left('say "no"\\ or\nyes', 8, 'a \\ and\na line'), left('etcd', 9)]),
    failed.at(-1)!,
  ])
  const series = seriesIn(text)
  const of = 'playbook="two",inventory="hosts.yml"'
  t.is(series.get(`rekey_run_success{${of}}`), 0)
  t.is(series.get(`rekey_run_exit_code{${of}}`), 2)
  t.is(series.get(`rekey_run_check{${of}}`), 0)
  t.is(series.get(`rekey_run_duration_seconds{${of}}`), 4)
  t.is(series.get(`rekey_run_end_timestamp_seconds{${of}}`), begun / 1_000 + 4)
  // Of one that comes twice the last counts: else the collector takes nothing of any file.
  t.deepEqual(
    [...series].flatMap(([name, value]) => {
      const component = /^rekey_certificate_of_mine.*,component="(.*)"\}$/.exec(name)?.[1]
      return component === undefined ? [] : [[component, value]]
    }),
    [
      ['etcd', 9],
      ['say \\"no\\"\\\\ or\\nyes', 8],
    ],
  )
  t.is(statSync(file).mode & 0o777, 0o644)
  const again = seriesIn(await written(file, recorded({ check: true })))
  t.is(again.get(`rekey_run_success{${of}}`), 1)
  t.is(again.get(`rekey_run_check{${of}}`), 1)
})

test('it is there whole or not at all, follows no link, and a run that was killed leaves that of the one before', async t => {
  const folder = temporaryFolder('metrics')
  const [file, other] = [join(folder, 'rekey.prom'), join(folder, 'other')]
  writeFileSync(other, 'mine')
  symlinkSync(other, file)
  const text = await written(file, done)
  t.is(readFileSync(other, 'utf8'), 'mine')
  t.true(lstatSync(file).isFile())
  const view = await openView({ output: 'json', metrics: file }, nothing, {})
  view.event(done[0]!)
  t.true(await view.close())
  t.is(readFileSync(file, 'utf8'), text)
  t.deepEqual(readdirSync(folder).sort(), ['other', 'rekey.prom'])
})

test('where it could not be written nothing is begun', async t => {
  const folder = temporaryFolder('metrics')
  mkdirSync(join(folder, 'folder.prom'))
  for (const file of [join(folder, 'absent', 'rekey.prom'), join(folder, 'folder.prom')])
    await t.throwsAsync(openView({ output: 'json', metrics: file }, nothing, {}), { code: 'output.metrics' })
  t.false(existsSync(join(folder, 'absent')))
})

test('when certificates end stays known where a run fails before it has looked, or goes to some hosts only', async t => {
  const file = join(temporaryFolder('metrics'), 'rekey.prom')
  const ends = (host: string, value: number) => ({
    ...{ name: 'rekey_certificate_end_timestamp_seconds', help: 'When it ends.', value },
    labels: { host, component: 'say "no"\\' },
  })
  const other = { name: 'rekey_of_mine', help: 'Of then.', value: 1 }
  const run = async (options: Parameters<typeof recorded>[0], metrics: readonly object[], limit?: string[]) => {
    const events = recorded(options).map(event =>
      event.kind === 'run.started' ? { ...event, selection: { ...event.selection, limit } } : event,
    )
    const text = await written(file, [
      ...events.slice(0, -1),
      ...(metrics.length > 0 ? [report(metrics)] : []),
      events.at(-1)!,
    ])
    const series = [...seriesIn(text)].filter(([name]) => !name.startsWith('rekey_run_'))
    return series.map(([name, value]) => `${/host="(\w+)"/.exec(name)?.[1] ?? name.split('{')[0]} ${value}`).sort()
  }
  t.deepEqual(await run({}, [ends('m1', 100), ends('n1', 200.5), other]), ['m1 100', 'n1 200.5', 'rekey_of_mine 1'])
  t.deepEqual(await run({ outcome: 'failed' }, []), ['m1 100', 'n1 200.5'])
  t.deepEqual(await run({ outcome: 'failed' }, [ends('m1', 300)]), ['m1 300', 'n1 200.5'])
  t.deepEqual(await run({}, [ends('n1', 400)], ['n1']), ['m1 300', 'n1 400'])
  t.deepEqual(await run({}, [ends('m1', 500)]), ['m1 500'])
  // What somebody else has put there is not ours.
  writeFileSync(file, readFileSync(file, 'utf8').replaceAll('inventory="hosts.yml"', 'inventory="other.yml"'))
  t.deepEqual(await run({ outcome: 'failed' }, []), [])
  const mine = join(temporaryFolder('metrics'), 'mine')
  writeFileSync(
    mine,
    await written(join(temporaryFolder('metrics'), 'x.prom'), [
      ...done.slice(0, -1),
      report([ends('m1', 1)]),
      done.at(-1)!,
    ]),
  )
  const linked = join(temporaryFolder('metrics'), 'rekey.prom')
  symlinkSync(mine, linked)
  t.notRegex(await written(linked, failed), /end_timestamp_seconds\{.*host=/)
})
