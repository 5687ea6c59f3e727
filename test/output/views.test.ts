// The same runs on every renderer.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import test from 'ava'
import { type OutputKind, openView } from '../../lib/output/open-view.ts'
import { redactor } from '../../lib/output/redaction.ts'
import type { RunEvent } from '../../lib/run/events.ts'
import { searched } from '../../lib/run/journal/event-text.ts'
import { openSecrets } from '../../lib/secrets/index.ts'
import { junitProblems } from './_junit.ts'
import { type Scenario, scenarios } from './_scenarios.ts'
import { screen, screenStream } from './_screen.ts'

const folder = mkdtempSync(join(tmpdir(), 'rekey-views-'))
test.after.always(() => rmSync(folder, { recursive: true, force: true }))

const environment = { LANG: 'en_US.UTF-8', TERM: 'xterm', NO_COLOR: '1' }
let reports = 0

/** Shows a scenario as `rekey run` would, and returns what was written. */
async function shown(kind: OutputKind, { events, verbose }: Scenario) {
  const secrets = openSecrets()
  secrets.tell('horse-battery')
  const redact = redactor(secrets)
  const on = screen(100, 24)
  const out = screenStream(on)
  let raw = ''
  const write = out.write.bind(out) as (text: string) => boolean
  out.write = (text: string | Uint8Array) => {
    raw += text
    return kind === 'tree' ? write(String(text)) : true
  }
  const junit = join(folder, `${++reports}.xml`)
  const view = await openView({ output: kind, verbose, junit }, out, environment)
  for (const event of events) view.event(searched(event, redact))
  await view.close()
  return { raw, screen: on, report: readFileSync(junit, 'utf8') }
}

for (const scenario of scenarios) {
  test.serial(`tree: ${scenario.name}`, async t => {
    const { raw, screen: on } = await shown('tree', scenario)
    const said = on.everything().join('\n')
    for (const expected of [...scenario.text, ...(scenario.tree ?? [])]) t.regex(said, expected)
    for (const secret of scenario.never ?? []) t.notRegex(raw, secret)
    t.true(on.cursorShown())
    // Nothing of an earlier picture is left behind.
    t.is(said.match(/Ctrl-C/g), null, said)
    t.is(said.match(/two: Two steps/g)?.length, 1)
  })

  test.serial(`plain: ${scenario.name}`, async t => {
    const { raw } = await shown('plain', scenario)
    for (const expected of [...scenario.text, ...(scenario.plain ?? [])]) t.regex(raw, expected)
    for (const secret of scenario.never ?? []) t.notRegex(raw, secret)
    t.is(raw, stripVTControlCharacters(raw))
  })

  test.serial(`json: ${scenario.name}`, async t => {
    const { raw } = await shown('json', scenario)
    const events = raw
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line) as RunEvent)
    t.deepEqual(
      events.map(({ kind, at }) => [kind, at]),
      scenario.events.map(({ kind, at }) => [kind, at]),
    )
    for (const secret of scenario.never ?? []) t.notRegex(raw, secret)
  })

  test.serial(`junit: ${scenario.name}`, async t => {
    const { report } = await shown('json', scenario)
    for (const expected of scenario.junit) t.regex(report, expected)
    for (const secret of scenario.never ?? []) t.notRegex(report, secret)
    t.deepEqual(junitProblems(report), [])
  })
}

test.serial('plain lines are coloured where that is asked for, and say the same', async t => {
  const lines = async (environment: NodeJS.ProcessEnv) => {
    let raw = ''
    const write = (text: string) => {
      raw += text
    }
    const out = { write } as unknown as NodeJS.WriteStream
    const view = await openView({ output: 'plain' }, out, environment)
    for (const event of scenarios.find(({ name }) => name === 'a step fails on a host')?.events ?? []) view.event(event)
    await view.close()
    return raw
  }
  const colored = await lines({ FORCE_COLOR: '1' })
  t.regex(colored, /\x1b\[31mfailed +\x1b\[39m First \[h2\]/)
  t.is(stripVTControlCharacters(colored), await lines({}))
})
