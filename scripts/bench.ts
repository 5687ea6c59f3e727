// `npm run bench`: rekey beside Ansible, Mitogen, pyinfra and OpenSSH, on hosts of its own on loopback, in one run.
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Row, runCase } from './bench/bench-run.ts'
import { benchCases } from './bench/cases.ts'
import { judge } from './bench/goals.ts'
import { openHosts } from './bench/hosts.ts'
import type { Runner } from './bench/jobs.ts'
import { installPeers, peerVersions } from './bench/peers.ts'
import { keep, writeRecord } from './bench/record.ts'
import { ansible, mitogen } from './bench/runners/ansible.ts'
import { bare } from './bench/runners/bare.ts'
import { openssh } from './bench/runners/openssh.ts'
import { pyinfra } from './bench/runners/pyinfra.ts'
import { rekey } from './bench/runners/rekey.ts'
import { plainTable } from './bench/table.ts'
import { counted } from './counted.ts'
import { unpackRekey } from './package/unpack.ts'

const help = `npm run bench -- [OPTIONS]
  --cases A,B      only these (--list prints them)
  --runners A,B    only these: rekey, node-ssh, openssh, pyinfra, mitogen, ansible
  --runs N         how often every runner does every case (5)
  --patience N     seconds after which a run is ended, and counts as longer than this (60)
  --json           the figures as JSON
  --record         write them into docs/benchmarks.md and docs/benchmark.svg; with --cases those alone, beside what is recorded of the others
  --list           print the cases`

const { values } = parseArgs({
  options: {
    cases: { type: 'string' },
    runners: { type: 'string' },
    runs: { type: 'string', default: '5' },
    patience: { type: 'string', default: '60' },
    json: { type: 'boolean', default: false },
    record: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

if (values.help) {
  console.log(help)
} else {
  await main()
}

async function main(): Promise<void> {
  if (values.record && values.runners !== undefined)
    throw new Error('--record is for everybody beside everybody: leave --runners away')
  const effort = { runs: counted('runs', values.runs), patience: counted('patience', values.patience) * 1_000 }
  const bench = await openHosts()
  try {
    const everyone: readonly Runner[] = [rekey(unpackRekey(bench.folder)), bare, openssh, pyinfra, mitogen, ansible]
    const runners = chosen(everyone, values.runners)
    const all = benchCases(join(bench.folder, 'sources'))
    if (values.list) {
      for (const { id, phases } of all) console.log(`${id.padEnd(14)} ${phases.map(({ title }) => title).join('; ')}`)
      return
    }
    installPeers(runners.map(({ id }) => id))
    const cases = chosen(all, values.cases)
    const tell = (line: string) => process.stderr.write(`${line}\n`)
    // What is compiled at a first start is kept by all of them.
    await runCase(all[0]!, runners, bench, { runs: 1, patience: 60_000 }, () => {})
    const about = {
      date: new Date().toISOString().slice(0, 10),
      command: ['npm run bench', ...(process.argv.length > 2 ? ['--'] : []), ...process.argv.slice(2)].join(' '),
      machine: `${availableParallelism()} cores, ${cpus()[0]?.model ?? 'unknown'}`,
      versions: peerVersions(),
    }
    const rows: Row[] = []
    for (const one of cases) {
      const found = await runCase(one, runners, bench, effort, tell)
      rows.push(...found)
      // Each as soon as it is there: the whole table takes two hours.
      if (values.record) keep(one.id, { ...about, rows: found })
    }
    tellResults(rows, runners, { ...about, login: bench.login })
    if (values.record) writeRecord(all, runners)
  } finally {
    await bench.close()
  }
}

function tellResults(rows: readonly Row[], runners: readonly Runner[], about: object): void {
  const goals = judge(rows)
  if (values.json) console.log(JSON.stringify({ ...about, rows, goals }, undefined, 2))
  else {
    console.log(plainTable(rows, runners))
    for (const { goal, found, met } of goals) console.log(`${met ? 'met   ' : 'MISSED'}  ${goal}: ${found}`)
  }
}

function chosen<T extends { readonly id: string }>(all: readonly T[], ids: string | undefined): readonly T[] {
  if (ids === undefined) return all
  return ids.split(',').map(id => {
    const found = all.find(one => one.id === id)
    if (!found) throw new Error(`there is no '${id}': ${all.map(one => one.id).join(', ')}`)
    return found
  })
}
