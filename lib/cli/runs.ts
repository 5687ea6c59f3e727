// `rekey runs` and `rekey show`: what was run, and how far it came.
import { basename } from 'node:path'
import { Command } from 'commander'
import { historyLines, runRow } from '../output/history.ts'
import { say } from '../output/print.ts'
import { columns } from '../output/words.ts'
import { runsDirectory } from '../run/folder/folder.ts'
import { findRun, readHistory, runFolders } from '../run/journal/history.ts'

export function runsCommand(): Command {
  return new Command('runs').description('list the runs, the newest last').action(() => {
    const rows = runFolders(runsDirectory()).map(rowOf)
    for (const line of columns(rows, '')) say(line)
  })
}

/** One folder that can't be read, whatever it holds, does not hide the other runs. */
function rowOf(folder: string): readonly [string, string] {
  try {
    return runRow(readHistory(folder))
  } catch (error) {
    return [basename(folder), (error as Error).message]
  }
}

export function showCommand(): Command {
  return new Command('show')
    .description('tell how far a run came, step by step')
    .argument('<run>', "its id, a part of it, 'last' (the last of a playbook), or the path of its folder")
    .action((reference: string) => {
      for (const line of historyLines(readHistory(findRun(reference, runsDirectory())))) say(line)
    })
}
