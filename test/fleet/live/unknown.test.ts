// A worker that dies in the middle of a run, in a fleet that has such clusters undone: from the store, by another worker.
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import { postgresMissing, startPostgres } from './_postgres.ts'
import { overlaps, simulate, soon } from './_simulated.ts'

const missing = postgresMissing()
const declare = missing ? test.skip : test
const fleet = 'playbook: ./steps.ts\nheartbeat: 10s\nwhen_unknown: rollback\nwaves:\n  - { name: all }'

declare(
  missing ? `fleets whose workers die not tested: ${missing}` : 'undone by another worker, halted, and begun anew',
  async t => {
    const database = await startPostgres()
    t.teardown(() => database.stop())
    const { start, rekey, log, folder } = simulate({ clusters: 1, fleet, takes: 1 })
    const env = { REKEY_FLEET_DATABASE: database.address }
    const key = ['--key', 'fleet.key']
    const first = start(['run', ...key], { env, state: 'one' })
    t.teardown(() => first.child.kill('SIGKILL'))
    t.true(await soon(() => log('c1').some(line => line.startsWith('begin 1'))), first.said())
    first.child.kill('SIGKILL')
    await first.ended

    const second = await rekey(['worker', '--jobs', '1', '--key', 'none.key'], { env, state: 'two' })
    t.is(second.code, 1)
    t.regex(second.said, /none\.key, the key of the fleet, can't be read/)
    const taken = await rekey(['run', ...key], { env, state: 'two' })
    t.is(taken.code, 2, taken.said)
    t.regex(taken.said, /c1: taken over by/)
    t.regex(taken.said, /c1: undone/)
    t.true(log('c1').includes('undo 0'))
    t.false(log('c1').some(line => line.startsWith('begin 2')))

    // One that was killed a moment ago is taken for nobody who goes on.
    const killed = start(['worker', ...key], { env, state: 'two' })
    t.teardown(() => killed.child.kill('SIGKILL'))
    t.true(await soon(() => /works on simulated/.test(killed.said())), killed.said())
    await setTimeout(1_000)
    killed.child.kill('SIGKILL')
    await killed.ended
    const mended = await rekey(['go-on', ...key], { env, state: 'two' })
    t.is(mended.code, 0, mended.said)
    t.regex(mended.said, /Not heard of since: .*\. If that lasts, this process works\./)
    const begun = log('c1').filter(line => line.startsWith('begin 0'))
    t.is(begun.length, 2, 'what was undone is begun anew')
    t.deepEqual(overlaps(log('c1')), [])
    t.true(log('c1').some(line => line.startsWith('end 2')))
    // What it was done with is nowhere but in the store.
    const left = readdirSync(`${folder}/two`, { recursive: true, encoding: 'utf8' })
    t.false(left.some(name => name.endsWith('events.jsonl')))
    t.false(readFileSync(`${folder}/fleet.key`, 'utf8') === '')
  },
)
