// argv to one call. Each command has a file of its own, imported only when it is used.
import { Command, CommanderError } from 'commander'
import { tellSecretsOf } from '../connection/environment.ts'
import { errorOf, exitCodes, messageOf, RekeyError, thrownAt } from '../errors.ts'
import { lostOutput, tell, watchConsole, watchOutput } from '../output/print.ts'
import { strayError, watchProcess } from '../playbook/stray.ts'
import { rekeyVersion } from '../version.ts'
import { strictly } from './options/strict.ts'

const commands: Record<string, () => Promise<Command>> = {
  run: async () => (await import('./run.ts')).runCommand(),
  runs: async () => (await import('./runs.ts')).runsCommand(),
  show: async () => (await import('./runs.ts')).showCommand(),
  resume: async () => (await import('./resume.ts')).resumeCommand(),
  rollback: async () => (await import('./rollback.ts')).rollbackCommand(),
  playbooks: async () => (await import('./playbooks.ts')).playbooksCommand(),
  inventory: async () => (await import('./inventory.ts')).inventoryCommand(),
  certs: async () => (await import('./reading/certs.ts')).certsCommand(),
  keysets: async () => (await import('./reading/keysets.ts')).keysetsCommand(),
  ca: async () => (await import('./ca.ts')).caCommand(),
  template: async () => (await import('./template.ts')).templateCommand(),
  lab: async () => (await import('./lab.ts')).labCommand(),
}

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
  // Only the command that was asked for is loaded; help needs them all.
  const wanted = commands[argv[0] ?? '']
  if (!wanted) program.version(rekeyVersion(), '-V, --version', 'print the version')
  for (const load of wanted ? [wanted] : Object.values(commands)) program.addCommand(await load())
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
