// `rekey runs` and `rekey show`: what was run, and how far it came.
import { basename } from 'node:path'
import { Command } from 'commander'
import { historyLines, runHeads, runRow } from '../output/history.ts'
import { say } from '../output/print.ts'
import { table } from '../output/words.ts'
import { runsDirectory } from '../run/folder/folder.ts'
import { findRun, readHistory, runFolders } from '../run/journal/history.ts'

export function runsCommand(): Command {
  return new Command('runs')
    .description('list the runs, the newest last')
    .option('-w, --watch', 'show the run that goes on now, as its own view does, until it ends')
    .action(async ({ watch }: { watch?: true }) => {
      const folders = runFolders(runsDirectory())
      if (watch) {
        const { runningNow, watchRun } = await import('./reading/watch.ts')
        process.exitCode = await watchRun(runningNow(folders))
        return
      }
      // Whoever reads it with a program finds nothing where there is nothing.
      if (folders.length > 0) for (const line of table([runHeads, ...folders.map(rowOf)])) say(line)
    })
}

/** One folder that can't be read, whatever it holds, does not hide the other runs. */
function rowOf(folder: string): readonly string[] {
  try {
    return runRow(readHistory(folder))
  } catch (error) {
    return [basename(folder), '', '', (error as Error).message]
  }
}

export function showCommand(): Command {
  return new Command('show')
    .description('tell how far a run came, step by step')
    .argument('<run>', "its id, a part of it, 'last' (the last of a playbook), or the path of its folder")
    .option('-w, --watch', 'show it as its own view does, until it ends; exits with its code')
    .action(async (reference: string, { watch }: { watch?: true }) => {
      const folder = findRun(reference, runsDirectory())
      if (watch) process.exitCode = await (await import('./reading/watch.ts')).watchRun(folder)
      else for (const line of historyLines(readHistory(folder))) say(line)
    })
}
