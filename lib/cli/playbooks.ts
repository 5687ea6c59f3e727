// `rekey playbooks`: what there is, with what each takes.
import { Command } from 'commander'
import { say } from '../output/print.ts'
import { loadPlaybook, ownPlaybooks, shippedPlaybooks } from '../playbook/load.ts'
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
      const own = ownPlaybooks(playbookFolders()).map(({ name, file }) => ({ name, file, heading: `${name} (yours)` }))
      const shipped = shippedPlaybooks().map(name => ({ name, file: name, heading: name }))
      for (const { file, heading } of [...own, ...shipped]) {
        const { playbook } = await loadPlaybook(file)
        say(`${heading}\n  ${playbook.summary}`)
        const names = variableNames(playbook)
        if (names.length > 0) say(`  Variables: ${names.join(', ')}`)
      }
    })
}
