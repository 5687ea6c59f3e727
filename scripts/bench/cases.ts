// What is measured: each case with its hosts, its jobs, and how to see that the work was done, whoever did it.
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { bigInventory } from './big-inventory.ts'
import { fewFiles, type Job, renderedText, type Task } from './jobs.ts'
import type { Measured } from './measure.ts'

/** One thing that is timed, after the ones before it in its case. */
export interface Phase {
  readonly id: string
  readonly title: string
  readonly job: Job
  /** The hosts are left as the phase before left them: what is there already is to be left alone. */
  readonly again?: boolean
  /** Throws where the work was not done. Returns seconds where they are not simply those until the end. */
  check(task: Task, measured: Measured): number | undefined
  /** Does for a runner that was ended what it did not come to, so that what comes after it can be asked of it. */
  layDown?(task: Task): void
  /** Runners that are left out, and why. */
  readonly without?: Readonly<Record<string, string>>
}

export interface Case {
  readonly id: string
  readonly hosts: number
  /** Milliseconds that each way takes longer. */
  readonly delay: number
  readonly phases: readonly Phase[]
  /** Writes the files that its phases need: many megabytes, which the others can do without. */
  prepare?(): void
}

const plural = (count: number, word: string) => `${count.toLocaleString('en')} ${word}${count === 1 ? '' : 's'}`

/** The cases, whose files will be in `folder`. */
export function benchCases(folder: string): Case[] {
  return [
    { id: 'start', hosts: 1, delay: 0, phases: [startPhase, wordsPhase('help'), wordsPhase('version')] },
    stepsCase(1, 5),
    stepsCase(30, 5),
    stepsCase(10, 100),
    stepsCase(10, 500),
    stepsCase(30, 5, { lines: 40 }),
    rateCase(10, 100),
    rateCase(10, 500),
    stepsCase(30, 5, { delay: 25 }),
    stepsCase(10, 100, { delay: 25 }),
    stepsCase(10, 500, { delay: 25 }),
    copyCase('big', '1 file of 100 MB to 5 hosts', sourceFiles(join(folder, 'big'), 1, 100 * 1024 ** 2)),
    copyCase('small', '1,000 files of 4 KiB to 5 hosts', sourceFiles(join(folder, 'small'), 1_000, 4 * 1024)),
    { id: 'templates', hosts: 100, delay: 0, phases: templatePhases(20, 100) },
    { id: 'facts', hosts: 100, delay: 0, phases: [factsPhase(100)] },
    inventoryCase(join(folder, 'inventory')),
  ]
}

const startPhase: Phase = {
  id: 'start',
  title: 'start-up to the first command on 1 host',
  job: { kind: 'first' },
  check: ({ bench }, { startedAt }) => {
    const nanoseconds = readFileSync(bench.log, 'utf8').trim()
    expect(/^\d{19}$/.test(nanoseconds), `one time in the log, not ${JSON.stringify(nanoseconds)}`)
    return (Number(nanoseconds) / 1e6 - startedAt) / 1_000
  },
}

const wordsPhase = (word: string): Phase => ({
  id: word,
  title: `--${word}`,
  job: { kind: 'words', words: [`--${word}`] },
  check: (_, { output }) => {
    expect(output.trim() !== '', 'something is said')
    return undefined
  },
})

function stepsCase(steps: number, hosts: number, { lines = 0, delay = 0 } = {}): Case {
  const id = `${steps}x${hosts}${lines > 0 ? '-lines' : ''}${delay > 0 ? '-delay' : ''}`
  const more = `${lines > 0 ? `, ${(lines * steps * hosts).toLocaleString('en')} lines of output` : ''}${delay > 0 ? `, ${2 * delay} ms of round trip` : ''}`
  return { id, hosts, delay, phases: [stepsPhase(id, hosts, { steps, lines, seconds: 0 }, more)] }
}

/** Lines that all hosts together print in a second. */
const rate = 5_000

/** Steps that last a second, without output and with that of many programs: what nobody has to wait for may not be waited for. */
function rateCase(steps: number, hosts: number): Case {
  const id = `${steps}x${hosts}-second`
  const only = 'is not asked'
  const without = { openssh: only, pyinfra: only, mitogen: only, ansible: only }
  const phases = [0, rate / hosts].map(lines => {
    const more = `, a second each${lines > 0 ? `, ${rate.toLocaleString('en')} lines of output a second` : ''}`
    return { ...stepsPhase(`${id}${lines > 0 ? '-lines' : ''}`, hosts, { steps, lines, seconds: 1 }, more), without }
  })
  return { id, hosts, delay: 0, phases }
}

function stepsPhase(
  id: string,
  hosts: number,
  job: Omit<Extract<Job, { kind: 'steps' }>, 'kind'>,
  more: string,
): Phase {
  const { steps } = job
  return {
    id,
    title: `${plural(steps, 'step')} in lockstep on ${plural(hosts, 'host')}${more}`,
    job: { kind: 'steps', ...job },
    check: ({ bench }) => {
      const expected = Array.from({ length: steps }, (_, index) => `${index + 1}\n`.repeat(hosts)).join('')
      expect(
        readFileSync(bench.log, 'utf8') === expected,
        'every step on every host, and none before the one before it',
      )
      return undefined
    },
  }
}

function copyCase(id: string, title: string, { source, files, hashes, write }: SourceFiles): Case {
  const job = { kind: 'copy', source, files } as const
  const written = new Map<string, string>()
  const check = ({ reach }: Task) => {
    for (const host of reach.hosts) {
      for (const [name, hash] of hashes) {
        const path = join(host.folder, 'files', name)
        expect(sha256(readFileSync(path)) === hash, `${path} is what was sent`)
        written.set(path, stamp(path))
      }
    }
    return undefined
  }
  const layDown = ({ reach, bench }: Task) => {
    for (const name of files) {
      const from = join(source, name)
      const [content, { atime, mtime }] = [readFileSync(from), statSync(from)]
      for (const { folder } of reach.hosts) {
        const to = join(folder, 'files', name)
        bench.write(to, content)
        // `unarchive` goes by it.
        utimesSync(to, atime, mtime)
      }
    }
  }
  const again = { again: true, check: unchanged(written) } as const
  const over: Phase = {
    ...again,
    id: `${id}-over`,
    title: `${title}, unchanged, sent over by Ansible and Mitogen`,
    job,
    without: { ...noCompare, pyinfra: 'sends nothing: see below' },
  }
  const phases: Phase[] = [
    { id, title, job, check, layDown },
    // What they do best many files with can't do it without sending all of them.
    ...(files.length > fewFiles ? [over] : []),
    {
      ...again,
      id: `${id}-again`,
      title: `${title}, unchanged, nothing sent`,
      job: { ...job, onlyDifferent: true },
      check: (task, measured) => {
        const contents =
          files.reduce((sum, name) => sum + statSync(join(source, name)).size, 0) * task.reach.hosts.length
        expect(measured.sent < contents / 2, `nothing sent: ${measured.sent} bytes went over, of ${contents}`)
        return again.check()
      },
      without: noCompare,
    },
  ]
  return { id, hosts: 5, delay: 0, phases, prepare: write }
}

const noCompare = { openssh: 'scp and tar send everything again' }

function templatePhases(count: number, hosts: number): Phase[] {
  const job: Job = { kind: 'templates', count }
  const title = `${count} templates rendered for ${plural(hosts, 'host')}`
  const written = new Map<string, string>()
  const check = ({ reach }: Task) => {
    for (const { name, folder } of reach.hosts) {
      for (let number = 1; number <= count; number++) {
        const path = join(folder, 'rendered', `t${number}.conf`)
        expect(readFileSync(path, 'utf8') === renderedText(name, number), `${path} is what its template makes`)
        written.set(path, stamp(path))
      }
    }
    return undefined
  }
  const layDown = ({ reach, bench }: Task) => {
    for (const { name, folder } of reach.hosts) {
      for (let number = 1; number <= count; number++)
        bench.write(join(folder, 'rendered', `t${number}.conf`), renderedText(name, number))
    }
  }
  return [
    { id: 'templates', title, job, check, layDown },
    { id: 'templates-again', title: `${title}, unchanged`, job, again: true, check: unchanged(written) },
  ]
}

/** Nothing that is there already was written again. */
function unchanged(written: ReadonlyMap<string, string>) {
  return () => {
    for (const [path, before] of written) expect(stamp(path) === before, `${path} was left alone`)
    return undefined
  }
}

function factsPhase(hosts: number): Phase {
  return {
    id: 'facts',
    title: `facts of ${plural(hosts, 'host')}`,
    job: { kind: 'facts' },
    check: ({ folder }, { output }) => {
      // rekey's registered values, and Ansible's cache of facts.
      const kept = readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter(entry => entry.isFile() && /^(registered\.jsonl|s1_h\d{3})$/.test(entry.name))
        .map(({ parentPath, name }) => readFileSync(join(parentPath, name), 'utf8'))
        .join('')
      const told = (output + kept).split(release()).length - 1
      expect(told >= hosts, `the kernel of ${hosts} hosts, not of ${told}`)
      return undefined
    },
  }
}

function inventoryCase(folder: string): Case {
  const { file, hosts, write } = bigInventory(folder)
  const phase: Phase = {
    id: 'inventory',
    title: `inventory of ${plural(hosts, 'host')}, listed`,
    job: { kind: 'inventory', file },
    check: (_task, { output }) => {
      const listed = JSON.parse(output.slice(output.indexOf('{'))) as { _meta: { hostvars: object } }
      expect(Object.keys(listed._meta.hostvars).length === hosts, `${hosts} hosts`)
      return undefined
    },
  }
  return { id: 'inventory', hosts: 1, delay: 0, phases: [phase], prepare: write }
}

interface SourceFiles {
  readonly source: string
  readonly files: readonly string[]
  /** By file, once they are written. */
  readonly hashes: ReadonlyMap<string, string>
  write(): void
}

/** Files of random bytes, and a tar of them beside their folder. */
function sourceFiles(source: string, count: number, size: number): SourceFiles {
  const files = Array.from({ length: count }, (_, index) => `f${String(index + 1).padStart(4, '0')}`)
  const hashes = new Map<string, string>()
  const write = () => {
    mkdirSync(source, { recursive: true })
    for (const name of files) {
      const content = randomBytes(size)
      writeFileSync(join(source, name), content)
      hashes.set(name, sha256(content))
    }
    if (count > 1) execFileSync('tar', ['-C', source, '-cf', `${source}.tar`, '.'])
  }
  return { source, files, hashes, write }
}

const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex')

/** What changes when a file is written again. */
function stamp(path: string): string {
  const { ino, mtimeNs } = statSync(path, { bigint: true })
  return `${ino} ${mtimeNs}`
}

function expect(holds: boolean, what: string): void {
  if (!holds) throw new Error(`expected ${what}`)
}
