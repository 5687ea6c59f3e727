// `rekey report`: a run as one HTML file.
import { basename, resolve } from 'node:path'
import { Command } from 'commander'
import { give, say } from '../../output/print.ts'
import { htmlReport } from '../../output/report/index.ts'
import { runsDirectory } from '../../run/folder/folder.ts'
import { findRun } from '../../run/journal/history.ts'
import { requireFree, writeOwnFile } from '../options/own-file.ts'

interface ReportOptions {
  output?: string
  against?: string
}

const which = "its id, a part of it, 'last' (the last of a playbook), or the path of its folder"

/** The command `rekey report`, for `lib/cli/main.ts` to mount. */
export function reportCommand(): Command {
  return new Command('report')
    .description('a run as one HTML file for operators and auditors, also beside another run')
    .argument('<run>', which)
    .option('-o, --output <file>', "where it is written, '-' for stdout; RUN.html here where nothing is said")
    .option(
      '--against <run>',
      'set another run beside it, as the rehearsal of this one: steps, durations, what was found differently',
    )
    .action(async (reference: string, { output, against }: ReportOptions) => {
      const folder = findRun(reference, runsDirectory())
      const other = against === undefined ? undefined : findRun(against, runsDirectory())
      const file = resolve(output ?? `${basename(folder)}.html`)
      if (output !== '-') requireFree(file, true)
      const page = await htmlReport({ folder, against: other, now: Date.now() })
      if (output === '-') {
        give(page)
        return
      }
      // For its owner only, as the folder is that it was made from.
      writeOwnFile(file, page, 'another')
      say(file)
    })
}
