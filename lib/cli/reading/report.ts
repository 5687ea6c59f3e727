// `rekey report`: a run as one HTML file.
import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { Command } from 'commander'
import { RekeyError } from '../../errors.ts'
import { give, say } from '../../output/print.ts'
import { htmlReport } from '../../output/report/index.ts'
import { runsDirectory } from '../../run/folder/folder.ts'
import { findRun } from '../../run/journal/history.ts'

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
      const page = await htmlReport({ folder, against: other, now: Date.now() })
      if (output === '-') {
        give(page)
        return
      }
      const file = resolve(output ?? `${basename(folder)}.html`)
      write(file, page)
      say(file)
    })
}

/** For its owner only, as the folder is that it was made from; whoever reads it meanwhile has the old one or the new one. */
function write(file: string, text: string): void {
  const beside = join(dirname(file), `.${basename(file).slice(0, 200)}.${randomBytes(4).toString('hex')}`)
  try {
    const descriptor = openSync(beside, 'wx', 0o600)
    try {
      const bytes = Buffer.from(text)
      // A disk that is nearly full takes the beginning.
      for (let written = 0; written < bytes.length; ) written += writeSync(descriptor, bytes, written)
      fsyncSync(descriptor)
    } finally {
      closeSync(descriptor)
    }
    renameSync(beside, file)
  } catch (cause) {
    rmSync(beside, { force: true })
    throw new RekeyError(`the report can't be written to ${file}: ${(cause as Error).message}`, {
      code: 'output.report',
      hint: 'Name a file that can be written, in a folder that is there, with --output.',
      cause,
    })
  }
}
