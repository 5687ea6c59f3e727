// The options that say how a run is shown: the same for every command that runs something.
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type OutputKind, outputKinds, type ViewSettings } from '../../output/open-view.ts'
import { formatSize, parseSize } from '../../playbook/size.ts'
import { keptOutput } from '../../run/printed/output-files.ts'
import { headings, under } from './help.ts'
import { oneOf } from './one-of.ts'
import { settable } from './settable.ts'

export interface OutputOptions {
  output: OutputKind
  verbose?: boolean
  junit?: string
  metrics?: string
  diff?: boolean
  keepOutput: number
}

/** Adds `--output`, `-v`, `-D`, `--junit`, `--metrics` and `--keep-output`. */
export function withOutputOptions(command: Command): Command {
  const whole = under(headings.view, command, one =>
    one
      .addOption(oneOf('--output <kind>', 'how to show the run', outputKinds).default('auto'))
      .option('-v, --verbose', 'every line that steps print, as it comes')
      .option('-D, --diff', 'what steps write to files, as diffs; with --check, what they would')
      .option('--junit <file>', 'write a JUnit report, too: a suite a play, a test a step and host')
      .option('--metrics <file>', 'write metrics, too, when the run ends: for the textfile collector of Prometheus')
      .addOption(
        new Option(
          '--keep-output <size>',
          'how much to keep of what a step prints on a host: its beginning and its end',
        )
          .argParser(outputSize)
          .default(keptOutput, formatSize(keptOutput)),
      ),
  )
  return settable(whole, {
    output: 'view.output',
    verbose: 'view.verbose',
    diff: 'view.diff',
    keepOutput: 'view.keep_output',
  })
}

/** Less than this is no output of a command. */
const least = 4 * 1024

function outputSize(value: string): number {
  const size = parseSize(value)
  if (size === undefined || size < least)
    throw new InvalidArgumentError(`It must be a size such as 64MB or 512k, ${formatSize(least)} or more.`)
  return size
}

/** What of the options a run is started with. */
export function viewOf(options: OutputOptions): ViewSettings & Pick<OutputOptions, 'diff' | 'keepOutput'> {
  const { output, verbose, junit, metrics, diff, keepOutput } = options
  return { output, verbose, junit, metrics, diff, keepOutput }
}
