// `rekey playbooks`: what there is, with what each takes.
import { Command } from 'commander'
import { say } from '../output/print.ts'
import { loadPlaybook, shippedPlaybooks } from '../playbook/load.ts'
import { variableNames } from '../playbook/variables.ts'

export function playbooksCommand(): Command {
  return new Command('playbooks')
    .description('list the shipped playbooks, their summaries and variables')
    .addHelpText('after', '\nDurations among the variables are written as 90s, 2m or 1h30m; a bare number is seconds.')
    .action(async () => {
      for (const name of shippedPlaybooks()) {
        const { playbook } = await loadPlaybook(name)
        say(`${name}\n  ${playbook.summary}`)
        const names = variableNames(playbook)
        if (names.length > 0) say(`  Variables: ${names.join(', ')}`)
      }
    })
}
