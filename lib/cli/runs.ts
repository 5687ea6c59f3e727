// `rekey runs` and `rekey show`: what was run, and how far it came.
import { Command } from 'commander'
import { historyLines, runRow } from '../output/history.ts'
import { columns } from '../output/words.ts'
import { runsDirectory } from '../run/folder.ts'
import { findRun, readHistory, runFolders } from '../run/history.ts'

export function runsCommand(): Command {
  return new Command('runs').description('list the runs, the newest last').action(() => {
    const rows = runFolders(runsDirectory()).map(folder => runRow(readHistory(folder)))
    for (const line of columns(rows, '')) console.log(line)
  })
}

export function showCommand(): Command {
  return new Command('show')
    .description('tell how far a run came, step by step')
    .argument('<run>', "its id, a part of it, 'last', or the path of its folder")
    .action((reference: string) => {
      for (const line of historyLines(readHistory(findRun(reference, runsDirectory())))) console.log(line)
    })
}
