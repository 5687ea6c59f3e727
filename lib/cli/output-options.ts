// The options that say how a run is shown: the same for every command that runs something.
import { type Command, Option } from 'commander'
import { type OutputKind, outputKinds, type ViewSettings } from '../output/open-view.ts'

export interface OutputOptions {
  output: OutputKind
  verbose?: boolean
  junit?: string
  diff?: boolean
}

/** Adds `--output`, `-v`, `-D` and `--junit`. */
export function withOutputOptions(command: Command): Command {
  return command
    .addOption(new Option('--output <kind>', 'how to show the run').choices(outputKinds).default('auto'))
    .option('-v, --verbose', 'every line that steps print, as it comes')
    .option('-D, --diff', 'what steps write to files, as diffs; with --check, what they would')
    .option('--junit <file>', 'write a JUnit report, too: a suite a play, a test a step and host')
}

/** What of the options a run is started with. */
export function viewOf({ output, verbose, junit, diff }: OutputOptions): ViewSettings & { diff?: boolean } {
  return { output, verbose, junit, diff }
}
