// What a fleet tells: its export, its page and its metrics, of a fleet in PostgreSQL that two workers saw through.
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, get, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { openPostgres } from '../../../lib/fleet/store/database.ts'
import { freePort, postgresMissing, startPostgres } from './_postgres.ts'
import { simulate, soon } from './_simulated.ts'

/** What is answered to whoever calls this machine by another name. */
async function statusAs(host: string, port: string, { headers = {} }: { headers?: Record<string, string> }) {
  const request = get({ host: '127.0.0.1', port, headers: { ...headers, host } })
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  response.resume()
  return response.statusCode
}

const missing = postgresMissing()
const declare = missing ? test.skip : test
declare(missing ? `what fleets tell not tested: ${missing}` : 'export, page and metrics', async t => {
  const database = await startPostgres()
  t.teardown(() => database.stop())
  // One that is told what happens, signed with a secret.
  const told: string[] = []
  const hook = createServer((request, response) => {
    request.setEncoding('utf8').on('data', (body: string) => told.push((JSON.parse(body) as { type: string }).type))
    request.on('end', () => response.writeHead(204).end())
  }).listen(0, '127.0.0.1')
  await once(hook, 'listening')
  t.teardown(() => hook.close())
  const url = `http://127.0.0.1:${(hook.address() as AddressInfo).port}/`
  const notify = `notify: [{ webhook: { url: '${url}', secret_file: hook }, on: [approval, wave, failed, ended] }]\n`
  const fleet = `${notify}playbook: ./steps.ts\nmax_parallel: 2\nwaves:\n  - { name: lab, labels: { tier: lab } }\n  - { name: rest, approval: true }`
  const { rekey, start, folder, runs } = simulate({ clusters: 3, fleet })
  const env = { REKEY_FLEET_DATABASE: database.address }
  writeFileSync(join(folder, 'hook'), `whsec_${Buffer.alloc(32).toString('base64')}\n`, { mode: 0o600 })
  const tried = await rekey(['notify', '--test'])
  t.is(tried.said, `webhook ${url.slice(0, -1)}: taken\n`)
  t.deepEqual(told.splice(0), ['rekey.fleet.notify'])
  const refused = await rekey(['run', '--database', 'postgres://rekey:hidden@127.0.0.1/postgres'])
  t.is(refused.code, 1)
  t.regex(refused.said, /a password on the command line is seen by everybody/)
  t.false(refused.said.includes('hidden'))

  const seen = await rekey(['run', '--metrics', '0.0.0.0:9'], { env })
  t.regex(seen.said, /0\.0\.0\.0 is seen from other machines, and whoever looks needs no token/)
  const measured = await freePort()
  const run = start(['run', '--metrics', String(measured)], { env })
  t.teardown(() => run.child.kill('SIGKILL'))
  t.true(await soon(() => /wave rest waits for somebody to approve it/.test(run.said())), run.said())
  const watching = start(['status', '--watch'], { env })
  t.teardown(() => watching.child.kill('SIGKILL'))
  t.true(await soon(() => /^Wave rest waits for somebody to approve it/m.test(watching.said())), watching.said())
  const counted = await (await fetch(`http://127.0.0.1:${measured}/metrics`)).text()
  t.regex(counted, /^rekey_fleet_worker_clusters_total\{fleet="simulated",worker="[^"]+",outcome="done"\} 2$/m)
  const goOn = await rekey(['go-on'], { env })
  t.regex(
    goOn.said,
    /^The fleet goes on: wave rest is approved\.\n(\S+ works on it; see 'rekey fleet status --watch'|The fleet is through)\.\n$/,
  )
  const { code, said } = await run.ended
  t.is(code, 0, said)
  const watched = await watching.ended
  t.is(watched.code, 0, 'watched until it was through')
  t.regex(watched.said, /^\d\d:\d\d:\d\d wave rest is through\n\d\d:\d\d:\d\d the fleet is through: 2 waves$/m)
  t.regex(said, /wave rest begins: 1 cluster, approved by /)
  const waves = Array.from({ length: 4 }, () => 'rekey.fleet.wave')
  t.deepEqual(told.toSorted(), ['rekey.fleet.approval', 'rekey.fleet.ended', ...waves], 'each of them once')

  const exported = await rekey(['export', '-o', 'fleet.json', '--folders', 'folders'], { env })
  t.is(exported.code, 0, exported.said)
  const text = readFileSync(join(folder, 'fleet.json'), 'utf8')
  t.false(text.includes('hidden'), 'values of variables are in no export')
  const whole = JSON.parse(text) as {
    clusters: { cluster: string; state: string; run: { run: string; ending: string; parts: { mode: string }[] } }[]
    waves: { approved_by: string | null }[]
    events: { kind: string }[]
    pruned?: string
  }
  const { clusters, waves: exportedWaves, events } = whole
  for (const { cluster, state, run } of clusters) {
    t.regex(readFileSync(join(folder, 'folders', run.run, 'events.jsonl'), 'utf8'), /"kind":"run.finished"/)
    t.is(state, 'done')
    t.deepEqual([run.run], runs(cluster), 'the hosts say the same')
    t.is(run.ending, 'done')
    t.deepEqual(
      run.parts.map(({ mode }) => mode),
      ['run'],
    )
  }
  t.is(exportedWaves[0]?.approved_by, null)
  t.truthy(exportedWaves[1]?.approved_by)
  t.is(events.filter(({ kind }) => kind === 'done').length, 3)

  t.regex(
    (await rekey(['serve', '--host', '0.0.0.0'], { env })).said,
    /0\.0\.0\.0 is seen from other machines, and whoever looks needs no token/,
  )
  writeFileSync(join(folder, 'token'), 'a-long-token\n')
  for (const token of [[], ['--token-file', 'token']]) {
    const port = String(await freePort())
    const serving = start(['serve', '--port', port, ...token], { env })
    t.teardown(() => serving.child.kill('SIGKILL'))
    await soon(() => /until Ctrl-C/.test(serving.said()) || serving.child.exitCode !== null)
    t.regex(serving.said(), /until Ctrl-C/)
    const ask = (path: string, options: RequestInit = {}) => fetch(`http://127.0.0.1:${port}${path}`, options)
    const authorization = `Basic ${Buffer.from('me:a-long-token').toString('base64')}`
    const told = token.length > 0 ? { headers: { authorization } } : {}
    if (token.length > 0) {
      t.is((await ask('/')).status, 401)
      t.is((await ask('/', { headers: { authorization: 'Bearer a-long-toke' } })).status, 401)
      t.is((await ask('/metrics', { headers: { authorization: 'Bearer a-long-token' } })).status, 200)
    }
    const page = await ask('/', told)
    t.is(page.status, 200)
    const html = await page.text()
    t.regex(html, /<h1>simulated<\/h1>/)
    t.regex(html, /wave rest is through/)
    t.notRegex(html, /<script|of-c\d-hidden/)
    const metrics = await (await ask('/metrics', told)).text()
    t.regex(metrics, /^rekey_fleet_clusters\{fleet="simulated",wave="lab",state="done"\} 2$/m)
    t.regex(metrics, /^rekey_fleet_done\{fleet="simulated"\} 1$/m)
    t.is((await ask('/', { method: 'POST', ...told })).status, 405)
    // A page of somebody else's whose name leads here has nothing but its name: with a token, that does not matter.
    t.is(await statusAs('elsewhere.example', port, told), token.length > 0 ? 200 : 403)
    t.is(await statusAs(`localhost:${port}`, port, told), 200)
    t.is((await ask('/status', told)).status, 404)
    serving.child.kill('SIGINT')
    t.is((await serving.ended).code, 0)
  }

  const shown = await rekey(['show', 'c1'], { env })
  t.is(shown.code, 0, shown.said)
  for (const line of [/^steps: Writes$/m, /^ {2}Step 1 +changed$/m, /^In the fleet it is done\.$/m])
    t.regex(shown.said, line)
  t.false(shown.said.includes('rekey resume'), 'that is the fleet’s')
  const kept = await rekey(['show', 'c1', '--folder', 'kept'], { env })
  const [, place = ''] = /^Its folder: (.*)$/m.exec(kept.said) ?? []
  t.true(readdirSync(place).includes('registered.jsonl'), kept.said)

  // What is stored of runs goes once it is old, and who did what when stays.
  const store = await openPostgres(database.address)
  t.teardown(() => store.close())
  t.regex((await rekey(['prune', '--older-than', '1h'], { env })).said, /^No fleet ended before that\.$/m)
  await store.query("UPDATE rekey_fleet.fleet SET ended = now() - interval '2 hours'")
  const asked = await rekey(['prune', '--older-than', '1h'], { env })
  t.is(asked.code, 1)
  t.regex(
    asked.said,
    /is to be removed: done since .*; 3 folders of runs \(\d+\.\d MB\), \d+ events\n.*nothing was removed/,
  )
  const pruned = await rekey(['prune', '--older-than', '1h', '--yes'], { env })
  t.is(pruned.code, 0, pruned.said)
  t.regex(pruned.said, /^1 removed\. Who began each/m)
  for (const table of ['fleet.piece', 'fleet.event', 'fleet.notice', 'fleet_queue.job', 'fleet_queue.queue'])
    t.deepEqual(await store.query(`SELECT count(*)::int AS rows FROM rekey_${table}`), [{ rows: 0 }], table)
  const left = JSON.parse((await rekey(['export'], { env })).said) as typeof whole
  t.deepEqual(
    left.clusters.map(({ cluster, state, run }) => [cluster, state, run]),
    clusters.map(({ cluster, state }) => [cluster, state, null]),
  )
  t.truthy(left.pruned)
  t.regex((await rekey(['prune', '--older-than', '1h', '--yes'], { env })).said, /^No fleet ended before that\.$/m)
})
