// Workers of one fleet over a real sshd that are killed, stopped and cut off from the database, from the hosts or from both at random, and a database
// that is started again: every cluster is done once, and no step by two at a time. REKEY_FLEET_CLUSTERS, REKEY_FLEET_FAULTS and REKEY_FLEET_SEED ask
// for more, or for the same once more.
import { appendFileSync, readdirSync, readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import type { RunEvent } from '../../../lib/run/events.ts'
import { sshdMissing, startSshd } from '../../ssh/sshd.ts'
import { postgresMissing, startPostgres } from './_postgres.ts'
import { type Called, overlaps, type Simulated, simulate, soon, sshPort } from './_simulated.ts'

const asked = (name: string, usual: number) => Number(process.env[`REKEY_FLEET_${name}`] ?? usual)
const [clusters, faults, seed] = [asked('CLUSTERS', 12), asked('FAULTS', 6), asked('SEED', Date.now() % 100_000)]
const faultKinds = ['kill', 'stop', 'freeze', 'cut', 'hosts', 'apart', 'restart'] as const
const [steps, takes] = [asked('STEPS', 4), asked('TAKES', 0.3)]
const addressAt = (port: number) => `postgres://rekey@127.0.0.1:${port}/postgres`
/** Longer than a worker may be silent, in milliseconds. */
const away = 15_000

/** The same numbers for the same seed (mulberry32). */
function randomOf(start: number): () => number {
  let state = start
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A way to a port that can be cut for a while: what was on its way comes through afterwards, as TCP sends it again. */
async function openWay(port: number) {
  const sockets = new Set<Socket>()
  let isCut = false
  const server = createServer(near => {
    const far = connect(port, '127.0.0.1')
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one)
      one.on('data', data => other.write(data)).on('error', () => other.destroy())
      one.on('close', () => {
        sockets.delete(one)
        other.destroy()
      })
      if (isCut) one.pause()
    }
  })
  await new Promise<void>(done => server.listen(0, '127.0.0.1', done))
  const set = (cut: boolean) => {
    isCut = cut
    for (const one of sockets) cut ? one.pause() : one.resume()
  }
  return {
    port: (server.address() as AddressInfo).port,
    set,
    close: () => {
      server.close()
      for (const one of sockets) one.destroy()
    },
  }
}

type Way = Awaited<ReturnType<typeof openWay>>

interface Worker {
  readonly called: Called
  /** Its ways to the database, and to the hosts. */
  readonly ways: readonly [Way, Way]
  busy: boolean
}

interface Status {
  readonly fleet: { readonly state: string }
  readonly clusters: readonly { readonly name: string; readonly state: string; readonly error: string | null }[]
}

/** The processes that one has begun, and theirs. */
function below(pid: number): number[] {
  const parents = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      try {
        const words = readFileSync(`/proc/${name}/stat`, 'utf8')
          .replace(/^.*\) /s, '')
          .split(' ')
        return [[Number(name), Number(words[1])] as const]
      } catch {
        return []
      }
    })
  const own = parents.filter(([, parent]) => parent === pid).map(([child]) => child)
  return own.flatMap(child => [child, ...below(child)])
}

const signal = (pid: number, name: NodeJS.Signals) => {
  try {
    process.kill(pid, name)
  } catch {
    // It has ended.
  }
}

const journalIn = (folder: string) =>
  readFileSync(join(folder, 'events.jsonl'), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line) as RunEvent)

/** Where what a run's journal says is not what the host says: its log of steps, and its audit log. */
function contradictions(journal: readonly RunEvent[], log: readonly string[], audit: readonly string[]): string[] {
  const count = (lines: readonly string[], has: RegExp) => lines.filter(line => has.test(line)).length
  const [parts, ends] = [count(audit, / started$/), count(audit, / done$/)]
  const [begun, done] = [
    journal.filter(({ kind }) => kind === 'run.started').length,
    journal.filter(event => event.kind === 'run.finished' && event.outcome === 'done').length,
  ]
  const found = [
    // A run that had ended, and whose worker was lost before it could say so, is gone on with, and ends once more: there was no step left.
    ...(ends >= 1 && done === 1 ? [] : [`it was ended ${ends} times on the host, ${done} times in the journal`]),
    ...(parts <= begun ? [] : [`it was begun ${parts} times on the host, ${begun} times in the journal`]),
  ]
  for (const step of Array(steps).keys()) {
    const of = journal.filter(event => 'step' in event && event.step === `s${step}`)
    const [asked, ended] = [
      of.filter(({ kind }) => kind === 'step.started').length,
      of.filter(event => event.kind === 'step.finished' && event.outcome === 'changed' && !event.earlier).length,
    ]
    const [here, over] = [count(log, new RegExp(`^begin ${step} `)), count(log, new RegExp(`^end ${step} `))]
    if (here > asked) found.push(`step ${step} was begun ${here} times on the host, ${asked} times in the journal`)
    if (ended !== 1) found.push(`step ${step} has ended ${ended} times in the journal`)
    if (over < ended) found.push(`step ${step} has ended ${over} times on the host, ${ended} times in the journal`)
  }
  return found
}

/** Whose clusters are in the middle of their steps, by the process ids of their workers. */
function midway(workers: readonly Worker[], log: Simulated['log']): ReadonlySet<number> {
  // Each says what happens to all, some later than others.
  const lines = workers
    .map(({ called }) => called.said().split('\n'))
    .sort((one, other) => other.length - one.length)[0]
  const of = new Map<string, number>()
  for (const line of lines ?? []) {
    const [, cluster, pid] = /(c\d+): (?:begun|taken over) by \S+-(\d+)-[0-9a-f]+$/.exec(line) ?? []
    if (cluster !== undefined) of.set(cluster, Number(pid))
  }
  const isMidway = ([cluster]: readonly [string, number]) => {
    const ended = log(cluster).filter(line => line.startsWith('end ')).length
    return ended > 0 && ended < steps
  }
  return new Set([...of].filter(isMidway).map(([, pid]) => pid))
}

const isLive = ({ child }: Called) => child.exitCode === null && child.signalCode === null

const missing = postgresMissing() ?? sshdMissing()
const declare = missing ? test.skip : test
declare(
  missing
    ? `fleets over several workers not tested: ${missing}`
    : `${clusters} clusters, 3 workers, ${faults} faults at random`,
  async t => {
    t.timeout(60 * 60_000)
    const random = randomOf(seed)
    const choose = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!
    const database = await startPostgres()
    t.teardown(() => database.stop())
    const sshd = await startSshd()
    t.teardown(() => sshd.stop())
    const hostKey = readFileSync(join(sshd.folder, 'host.pub'), 'utf8')
    const bench: Simulated = simulate({
      clusters,
      fleet:
        'playbook: ./steps.ts\nheartbeat: 10s\nmax_parallel: 6\nwaves:\n  - { name: lab, labels: { tier: lab } }\n  - { name: some, percent: 25% }\n  - { name: rest }',
      ...{ steps, takes, sshd },
    })
    const key = join(bench.folder, 'fleet.key')
    const workers: Worker[] = []
    let started = 0
    const begin = async (verb: string) => {
      const ways = [await openWay(database.port), await openWay(sshd.port)] as const
      appendFileSync(join(sshd.folder, 'known_hosts'), `[127.0.0.1]:${ways[1].port} ${hostKey}`)
      const words = [verb, '--jobs', '2', '--key', key]
      const env = { REKEY_FLEET_DATABASE: addressAt(ways[0].port), [sshPort]: String(ways[1].port) }
      const called = bench.start(words, { state: `worker-${++started}`, env })
      workers.push({ called, ways, busy: false })
      await soon(() => /works on simulated/.test(called.said()))
      return called
    }
    t.teardown(() => {
      for (const { called, ways } of workers) {
        for (const pid of [called.child.pid ?? 0, ...below(called.child.pid ?? -1)]) if (pid > 1) signal(pid, 'SIGKILL')
        for (const way of ways) way.close()
      }
    })
    const first = await begin('run')
    await soon(() => /begun by/.test(first.said()))
    t.regex(first.said(), /begun by/)
    await begin('worker')
    await begin('worker')

    const told: string[] = []
    const after: Promise<unknown>[] = []
    const isOver = () =>
      [...answers, ...workers.map(({ called }) => called.said())].some(said => /the fleet is through/.test(said))
    appendFileSync(join(sshd.folder, 'known_hosts'), `[127.0.0.1]:${sshd.port} ${hostKey}`)
    const direct = { env: { REKEY_FLEET_DATABASE: addressAt(database.port), [sshPort]: String(sshd.port) } }
    const answers: string[] = []
    /** A host that can't be reached for a while may have a cluster fail. Then somebody says that the fleet goes on, and the process that began it has ended. */
    const goOn = async () => {
      const { said } = await bench.rekey(['status', '--json'], direct)
      const { fleet, clusters } = JSON.parse(said) as Status
      if (fleet.state !== 'halted') return
      const failed = clusters.filter(({ state }) => state === 'failed')
      told.push(...failed.map(({ name, error }) => `go-on (${name}: ${error})`))
      t.true(told.some(one => /^(hosts|apart) /.test(one)) && failed.length > 0, said)
      const { code, said: answer } = await bench.rekey(['go-on', '--key', key], direct)
      answers.push(answer)
      // It works itself where no worker is heard of, and finds the next one that failed.
      t.true(code === 0 || (code === 2 && answer.includes('\nHalted: ')), answer)
      if (workers.filter(({ called }) => isLive(called)).length < 3) await begin('worker')
    }
    const halts = () => workers.flatMap(({ called }) => called.said().match(/ halted: /g) ?? []).length
    let seen = 0
    const look = async () => {
      const now = halts()
      if (now > seen) await goOn()
      seen = now
    }
    for (let done = 0; done < faults && !isOver(); ) {
      await look()
      // The first one is of a worker whose clusters are in the middle of something, and is taken over.
      const kind = done === 0 ? 'kill' : choose(faultKinds)
      if (done > 0) await delay(500 + random() * 2_000)
      else if (!(await soon(() => midway(workers, bench.log).size > 0 || isOver()))) break
      const among = done > 0 ? undefined : midway(workers, bench.log)
      const free = workers.filter(
        ({ called, busy }) => !busy && isLive(called) && among?.has(called.child.pid!) !== false,
      )
      if (free.length === 0) continue
      const worker = choose(free)
      const pid = worker.called.child.pid!
      done++
      told.push(`${kind} ${pid}`)
      worker.busy = true
      if (kind === 'restart') {
        await database.restart()
        worker.busy = false
      } else if (kind === 'kill') {
        signal(pid, 'SIGKILL')
        await begin('worker')
      } else if (kind === 'cut' || kind === 'hosts' || kind === 'apart') {
        const ways = { cut: [worker.ways[0]], hosts: [worker.ways[1]], apart: worker.ways }[kind]
        for (const way of ways) way.set(true)
        after.push(
          delay(away).then(() => {
            for (const way of ways) way.set(false)
            worker.busy = false
          }),
        )
      } else {
        const pids = kind === 'stop' ? [pid] : [pid, ...below(pid)]
        for (const one of pids) signal(one, 'SIGSTOP')
        after.push(
          delay(away).then(() => {
            for (const one of pids) signal(one, 'SIGCONT')
            worker.busy = false
          }),
        )
      }
    }
    await Promise.all(after)
    for (; !isOver() && workers.some(({ called }) => isLive(called)); await delay(200)) await look()
    const ends = await Promise.all(workers.map(({ called }) => called.ended))
    const killed = told.filter(one => one.startsWith('kill')).length
    t.log(`seed ${seed}: ${told.join(', ')}`)
    const halted = ends.filter(({ code, said }) => code === 2 && said.includes('\nHalted: ')).length
    t.is(
      ends.filter(({ code }) => code === 0).length,
      workers.length - killed - halted,
      ends.map(({ code, said }) => `${code}: ${said}`).join('\n'),
    )

    const { said } = await bench.rekey(['status', '--json'], direct)
    const status = JSON.parse(said) as Status
    t.is(status.fleet.state, 'done')
    t.deepEqual([...new Set(status.clusters.map(({ state }) => state))], ['done'])
    const all = [...answers, ...ends.map(one => one.said)].join('\n')
    const taken = new Set(all.match(/^.* c\d+: taken over by \S+$/gm)).size
    t.log(`${taken} taken over`)
    t.true(taken > 0, all)
    const exported = await bench.rekey(
      ['export', '--key', key, '-o', join(bench.folder, 'fleet.json'), '--folders', join(bench.folder, 'runs')],
      direct,
    )
    t.is(exported.code, 0, exported.said)
    const problems = status.clusters.flatMap(({ name }) => {
      const [log, runs] = [bench.log(name), bench.runs(name)]
      const journals = runs.map(run => journalIn(join(bench.folder, 'runs', run)))
      // Whoever saw it said so once: nobody did it again.
      const times = new Set(all.split('\n').filter(line => line.endsWith(` ${name}: done`)))
      return [
        ...overlaps(log),
        ...(journals.length === 1
          ? contradictions(journals[0]!, log, bench.audit(name))
          : [`runs: ${runs.join(', ')}`]),
        ...(times.size === 1 ? [] : [...times]),
      ].map(problem => `${name}: ${problem}`)
    })
    t.deepEqual(problems, [])
  },
)
