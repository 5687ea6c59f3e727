// `rekey completion`: what a shell completes by, and what it asks for that.
import { Argument, Command } from 'commander'
import { say } from '../../output/print.ts'
import type { Commands } from './completions.ts'

/** What each shell runs: it asks rekey for the words that may stand there, and takes names of files where there are none. */
const scripts = {
  bash: `_rekey() {
  mapfile -t COMPREPLY < <("\${COMP_WORDS[0]}" completion words -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _rekey rekey`,
  zsh: `#compdef rekey
_rekey() {
  local -a found
  found=("\${(@f)$("\${words[1]}" completion words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "\${found[1]}" ]]; then compadd -Q -a found; else _files; fi
}
compdef _rekey rekey`,
  fish: `complete -c rekey -a '(rekey completion words -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'`,
} as const

/** @param commands those of rekey, by their names */
export function completionCommand(commands: Commands): Command {
  const command = new Command('completion')
    .description('what bash, zsh or fish completes the words of rekey by')
    .addArgument(new Argument('<shell>', 'which shell').choices(['bash', 'zsh', 'fish', 'words']))
    .argument('[words...]', 'with words: what stands after rekey, the last of which is to be completed')
    .addHelpText(
      'after',
      `
Put one of these where your shell starts:
  eval "$(rekey completion bash)"
  eval "$(rekey completion zsh)"
  rekey completion fish | source

Hosts, groups and tags are those of the inventory and the playbook that the line
names: both are read, as rekey run --list-hosts does.`,
    )
  return command.action(async (shell: keyof typeof scripts | 'words', words: string[]) => {
    if (shell !== 'words') return say(scripts[shell])
    const { completions } = await import('./completions.ts')
    for (const word of await completions(words, commands)) say(word)
  })
}
