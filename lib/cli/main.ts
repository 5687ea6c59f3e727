// argv to one call.
import { Command, CommanderError } from 'commander'
import { tellSecretsOf } from '../connection/environment.ts'
import { errorOf, exitCodes, messageOf, RekeyError, thrownAt } from '../errors.ts'
import { lostOutput, tell, watchConsole, watchOutput } from '../output/print.ts'
import { strayError, watchProcess } from '../playbook/stray.ts'
import { rekeyVersion } from '../version.ts'
import { commands, groupOf, otherCommands, unloaded } from './commands.ts'
import { example } from './options/help.ts'
import { settingNameOf } from './options/settable.ts'
import { strictly } from './options/strict.ts'

/** What needs no command to be answered. */
const general = ['-V', '--version', '-h', '--help', 'help']

/**
 * Watches over this process: once, before anything is said.
 * @returns what ends the watch for what can't end any more
 */
export function watchOver(): () => void {
  watchOutput()
  watchConsole()
  // Where a file grows larger than it may, the write fails, and says so.
  process.on('SIGXFSZ', () => {})
  return watchProcess(stray => {
    tellError(strayError(stray, errorOf(stray.thrown)))
    process.exit(process.exitCode || (stray.place?.run === undefined ? exitCodes.misuse : exitCodes.hostFailed))
  })
}

/** Does what a command line asks for, says what went wrong with it, and sets the exit code of the process. Never rejects. */
export async function commandLine(argv: readonly string[]): Promise<void> {
  tellSecretsOf(process.env)
  try {
    await call(argv)
  } catch (error) {
    if (error instanceof CommanderError) {
      // Commander has said what is wrong; asking for help is not misuse.
      process.exitCode = error.exitCode === 0 ? exitCodes.done : exitCodes.misuse
    } else {
      tellError(errorOf(error))
      process.exitCode = error instanceof RekeyError ? error.exitCode : exitCodes.misuse
    }
  }
  // It is told a moment later than it happens.
  await new Promise(setImmediate)
  const lost = lostOutput()
  if (!lost) return
  tell(`Error: what was to be shown can't be written: ${lost.message}`)
  process.exitCode ||= exitCodes.misuse
}

/** The whole of a process: for bin/rekey. */
export async function main(): Promise<void> {
  const unwatch = watchOver()
  await commandLine(process.argv.slice(2))
  unwatch()
  // What a playbook left behind, or a server that goes on sending, keeps nobody waiting; connections that are being closed get their time.
  setTimeout(() => process.exit(), 2_000).unref()
}

async function call(argv: readonly string[]): Promise<void> {
  const program = new Command('rekey')
    .description('rotates the trust of a live Kubernetes cluster: CAs, certificates, service-account keys, tokens')
    // Options belong to the command before them: those after the host of 'lab ssh' to what is run there.
    .enablePositionalOptions()
    // Where its own `help` stands.
    .commandsGroup(otherCommands)
    .addHelpText(
      'after',
      `${example('what a command takes', 'rekey run --help')}\n\nAll of it, where rekey is installed: man rekey`,
    )
    .hook('preAction', async (_, command) => {
      if (command.options.some(option => settingNameOf(option)))
        (await import('./options/settings.ts')).fillOptions(command)
    })
  // Only the command that was asked for is loaded; who may be meant by something else, all of them tell.
  const wanted = Object.hasOwn(commands, argv[0] ?? '') ? argv[0]! : undefined
  if (!wanted) program.version(rekeyVersion(), '-V, --version', 'print the version')
  const isGeneral = argv.length === 0 || (argv.length === 1 && general.includes(argv[0]!))
  for (const name of wanted ? [wanted] : Object.keys(commands))
    program.addCommand((isGeneral ? unloaded(name) : await commands[name]!.load()).helpGroup(groupOf(name)))
  for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands: sub }) => sub)]) {
    strictly(command)
  }
  await program.parseAsync(argv, { from: 'user' })
}

function tellError(error: Error): void {
  const place = error instanceof RekeyError ? undefined : thrownAt(error, true)
  const { hint = place && `It comes from ${place}.` } = error as Partial<RekeyError>
  tell(`Error: ${messageOf(error)}`)
  if (hint) tell(`Hint: ${hint}`)
}
