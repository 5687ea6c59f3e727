// `rekey fleet plan`: who goes when, and why; with --check, what a run would do on each.
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { exitCodes } from '../../errors.ts'
import { type Fleet, readFleet } from '../../fleet/definition/fleet-file.ts'
import { type PlannedCluster, type PlannedWave, planWaves } from '../../fleet/definition/waves.ts'
import { opensAt } from '../../fleet/definition/windows.ts'
import { environment, inventoryWords, program, variableWords } from '../../fleet/work/called.ts'
import { give, say, tell } from '../../output/print.ts'
import { count } from '../../output/report/words.ts'
import { visibleJson } from '../../output/text.ts'
import { table } from '../../output/words.ts'
import { formatDuration } from '../../playbook/duration.ts'
import { example } from '../options/help.ts'
import { interruptible } from '../running/interrupt.ts'
import { withFile } from './store.ts'
import { playbookOf } from './working.ts'

export function planCommand(): Command {
  const command = new Command('plan')
    .description('who goes when, and why; changes nothing and begins nothing')
    .argument('[playbook]', 'a name from playbooks/, or a path; the one of fleet.yml where it is left out')
  return withFile(command)
    .option('--json', 'everything, as JSON')
    .option('-C, --check', "run each cluster's check: what would be done on its hosts")
    .addHelpText('after', example('who goes when', 'rekey fleet plan -F fleet.yml'))
    .action(async (reference: string | undefined, options: { file: string; json?: true; check?: true }) => {
      const file = readFleet(options.file)
      const waves = planWaves(file)
      const { path } =
        reference === undefined && file.playbook === undefined ? { path: undefined } : playbookOf(file, reference)
      if (options.json)
        give(
          `${visibleJson({ name: file.name, playbook: path, max_parallel: file.maxParallel, waves: waves.map(asJson) }, 2)}\n`,
        )
      else say(lines(file, waves).join('\n'))
      if (options.check) process.exitCode = await check(file, waves, playbookOf(file, reference).path)
    })
}

function lines({ name, maxParallel, clusters }: Fleet, waves: readonly PlannedWave[]): string[] {
  const now = Date.now()
  const rows = waves.flatMap(wave => wave.clusters.map(one => [wave.name, one.name, whenOf(one, now), one.why]))
  return [
    `Fleet ${name}: ${count(clusters.length, 'cluster')} in ${count(waves.length, 'wave')}, ${maxParallel} at a time`,
    '',
    ...table([['WAVE', 'CLUSTERS', 'MAY FAIL', 'BEFORE IT', 'AFTER IT'], ...waves.map(waveRow)]),
    '',
    ...table([['WAVE', 'CLUSTER', 'MAY BEGIN', 'WHY'], ...rows]),
  ]
}

function waveRow({ name, clusters, failures, approval, soak, gates }: PlannedWave): string[] {
  const after = [...(soak > 0 ? [`soak ${formatDuration(soak)}`] : []), ...gates]
  return [name, String(clusters.length), String(failures), approval ? 'approval' : '', after.join(', ')]
}

function whenOf({ windows }: PlannedCluster, now: number): string {
  const opens = opensAt(windows, now)
  return opens <= now ? 'now' : `${new Date(opens).toISOString().slice(0, 16).replace('T', ' ')} UTC`
}

const asJson = ({ name, failures, approval, soak, gates, clusters }: PlannedWave) => ({
  ...{ name, failures, approval, soak, gates },
  clusters: clusters.map(({ name, why, inventory, labels, windows }) => {
    const opens = opensAt(windows, Date.now())
    return { name, why, inventory, labels, may_begin: Number.isFinite(opens) ? new Date(opens).toISOString() : null }
  }),
})

/** Checks each cluster in a process of its own, as many at a time as the fleet has at work. Returns the worst exit code. */
async function check(file: Fleet, waves: readonly PlannedWave[], playbook: string): Promise<number> {
  const next = waves.flatMap(wave => wave.clusters).values()
  // Variables may be secrets: this user's alone, and gone afterwards.
  const folder = mkdtempSync(join(tmpdir(), 'rekey-fleet-'))
  const remove = () => rmSync(folder, { recursive: true, force: true })
  process.once('exit', remove)
  const { signal, release } = interruptible()
  let worst: number = exitCodes.done
  const work = async () => {
    for (const one of next) {
      const { code, said } = await checkOne(file, one, { playbook, folder, signal })
      if (signal.aborted) return
      say(`${one.name}: ${code === exitCodes.done ? 'its check went well' : `its check failed with ${code}`}`)
      if (code !== exitCodes.done) tell(said)
      worst = Math.max(worst, code)
    }
  }
  try {
    await Promise.all(Array.from({ length: file.maxParallel }, work))
  } finally {
    release()
    remove()
    process.off('exit', remove)
  }
  return signal.aborted ? exitCodes.interrupted : worst
}

function checkOne(
  file: Fleet,
  one: PlannedCluster,
  { playbook, folder, signal }: { readonly playbook: string; readonly folder: string; readonly signal: AbortSignal },
) {
  const given = [...inventoryWords(file, one), ...variableWords(folder, one)]
  const words = ['run', playbook, ...given, '--check', '--output', 'plain']
  const options = { cwd: file.folder, maxBuffer: 64 * 1024 * 1024, env: environment(), signal }
  return new Promise<{ code: number; said: string }>(done => {
    execFile(process.execPath, [program, ...words], options, (error, stdout, stderr) => {
      const code = error ? (typeof error.code === 'number' ? error.code : exitCodes.hostFailed) : exitCodes.done
      done({ code, said: `${stdout.slice(-4_000)}${stderr.slice(-4_000)}` })
    })
  })
}
