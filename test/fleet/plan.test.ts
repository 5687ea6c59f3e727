// `rekey fleet plan`, through the command line.
import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import test from 'ava'
import { workbench } from '../cli/_rekey.ts'
import { clusterLines, fleetFile } from './_fleet-file.ts'

const waves = 'waves:\n  - { name: canary, count: 1, approval: true, soak: 10m, gates: [certs] }\n  - { name: rest }'

test('who goes when, and why', async t => {
  const file = fleetFile(`name: x\nmax_parallel: 2\nclusters:\n${clusterLines(3)}\n${waves}`)
  const { rekey } = workbench('local', ['h1'], true)
  const { code, stdout, stderr } = await rekey(['fleet', 'plan', '-F', file])
  t.is(code, 0, stderr)
  t.regex(stdout, /^Fleet x: 3 clusters in 2 waves, 2 at a time$/m)
  t.regex(stdout, /^canary +1 +0 +approval +soak 10 m 00 s, certs$/m)
  t.regex(stdout, /^canary +c1 +now +1 of 3$/m)
  t.regex(stdout, /^rest +c3 +now +all that are left$/m)
})

test('a thousand clusters, as JSON', async t => {
  const window = `, windows: [{ days: [sun], from: '01:00', to: '02:00', zone: Asia/Tokyo }]`
  const file = fleetFile(`name: x\nclusters:\n${clusterLines(1_000, index => (index % 2 ? window : ''))}\n${waves}`)
  const { rekey } = workbench('local', ['h1'], true)
  const { code, stdout } = await rekey(['fleet', 'plan', '-F', file, '--json'])
  t.is(code, 0)
  const plan = JSON.parse(stdout) as { waves: { clusters: { name: string; may_begin: string }[] }[] }
  t.is(plan.waves[1]?.clusters.length, 999)
  t.true(plan.waves.every(({ clusters }) => clusters.every(one => Date.parse(one.may_begin) > 0)))
})

test('a playbook that fleet.yml names by its path is looked for beside it, whatever it ends with', async t => {
  const { rekey } = workbench('local', ['h1'], true)
  for (const playbook of ['steps.ts', 'steps.js', './steps.mts']) {
    const file = fleetFile(`name: x\nplaybook: ${playbook}\nclusters:\n${clusterLines(2)}\n${waves}`)
    const path = join(dirname(file), playbook)
    writeFileSync(path, '')
    const { code, stdout, stderr } = await rekey(['fleet', 'plan', '-F', file, '--json'])
    t.is(code, 0, stderr)
    t.like(JSON.parse(stdout), { playbook: path })
  }
})

test('--check runs the check of each cluster, and exits with the worst', async t => {
  const bench = workbench('local', ['h1'], true)
  const playbook = bench.playbook(`
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'x', summary: 'x', vars: z.object({ number: z.number() }), plays: [play('P', { hosts: 'masters' }, [
  step('Do it', { run: () => {} })])] })`)
  const file = join(bench.folder, 'fleet.yml')
  const cluster = (name: string, number: string) =>
    `  ${name}: { inventory: hosts.yml, variables: { number: ${number} } }\n`
  writeFileSync(file, `name: x\nclusters:\n${cluster('good', '1')}${cluster('bad', 'none')}waves: [{ name: all }]`)
  const { code, stdout, stderr } = await bench.rekey(['fleet', 'plan', playbook, '-F', file, '--check'])
  t.is(code, 1)
  t.regex(stdout, /^good: its check went well$/m)
  t.regex(stdout, /^bad: its check failed with 1$/m)
  t.regex(stderr, /number/)
})
