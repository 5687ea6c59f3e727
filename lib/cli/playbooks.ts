// `rekey playbooks`: what there is, with what each takes.
import { Command } from 'commander'
import { errorOf } from '../errors.ts'
import { say } from '../output/print.ts'
import { listedPlaybooks, loadPlaybook, shippedPlaybooks } from '../playbook/load.ts'
import { variableNames } from '../playbook/variables.ts'
import { playbookFolders } from './options/settings.ts'

export function playbooksCommand(): Command {
  return new Command('playbooks')
    .description('list the playbooks, yours and the shipped ones, their summaries and variables')
    .addHelpText(
      'after',
      '\nDurations among the variables are written as 90s, 1h30m or 30d; a bare number\nis seconds.',
    )
    .action(async () => {
      const own = listedPlaybooks(playbookFolders()).map(({ name, file }) => ({ file, heading: `${name} (yours)` }))
      const shipped = shippedPlaybooks().map(name => ({ file: name, heading: name }))
      for (const { file, heading } of [...own, ...shipped]) {
        const told = await toldOf(file)
        say(`${heading}\n${told.map(line => `  ${line}`).join('\n')}`)
      }
    })
}

/** One that can't be loaded, for whatever reason, does not hide the others. */
async function toldOf(file: string): Promise<string[]> {
  try {
    const { playbook } = await loadPlaybook(file)
    const names = variableNames(playbook)
    return [playbook.summary, ...(names.length > 0 ? [`Variables: ${names.join(', ')}`] : [])]
  } catch (error) {
    return [errorOf(error).message]
  }
}
