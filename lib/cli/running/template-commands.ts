// The commands of templates: which are to be run after files changed, each once, and running one on a host.
import { createHash } from 'node:crypto'
import { quote } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { StepContext } from '../../playbook/model.ts'
import type { TemplateBlock } from '../../template/configuration.ts'

/** The blocks whose commands are to be run, each command once: templates of one component often share it. */
export function commandsOf(blocks: readonly TemplateBlock[]): TemplateBlock[] {
  const commands = new Map<string, TemplateBlock>()
  for (const block of blocks) {
    if (block.command === undefined) continue
    if (!commands.has(commandId(block))) commands.set(commandId(block), block)
  }
  return [...commands.values()]
}

/** A command, without saying what it is. */
export const commandId = ({ command, commandEnvironment }: TemplateBlock) =>
  createHash('sha256')
    .update(JSON.stringify([command, commandEnvironment]))
    .digest('hex')
    .slice(0, 32)

/**
 * Runs the command of a block on a host. The environment goes over stdin: what it holds must not show in a command line.
 * @throws HostFailedError where it fails
 */
export async function runCommand({ $, host }: StepContext, block: TemplateBlock): Promise<void> {
  const { command, commandTimeout: timeout, commandEnvironment, place } = block
  const words = typeof command === 'string' ? ['sh', '-c', command] : command!
  const script = [
    ...Object.entries(commandEnvironment).map(([name, value]) => `export ${name}=${quote(value)}`),
    `exec ${words.map(quote).join(' ')} </dev/null`,
  ].join('\n')
  const { exitCode, stderr, cause } = await $({ input: script, timeout, nothrow: true })`sh -s`
  if (exitCode === 0) return
  const isLate = (cause as Partial<HostFailedError> | undefined)?.code === 'command.timeout'
  const how = isLate
    ? `did not end within ${timeout / 1000} s and was ended`
    : `failed (exit status ${exitCode}): ${stderr.trim()}`
  throw new HostFailedError(`${host.name}: the files are in place, and the command of ${place} ${how}`, {
    code: 'template.command',
    host: host.name,
    hint: 'The next run tries the command again.',
  })
}
