// `command`: a command that is left out where what it makes is there already, or what it takes away is gone. Commands as such stay `$`.
import type { Remote } from '../../connection/remote.ts'
import { quote, raw, type Secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { splitShell } from '../../shell-words.ts'
import { operation } from '../operation.ts'
import { anyText, checkedOptions, type Kinds, text, textOrSecret, wrongOptions } from '../options.ts'

/** A command, and when it is left out. */
export interface CommandOptions {
  /** What is run: words, split as a shell does, and no shell reads them … */
  readonly cmd?: string
  /** … or the words one by one … */
  readonly argv?: readonly string[]
  /** … or whatever `$` can do, with pipes and redirections: `` $ => $`make | tee log` ``. */
  readonly run?: ($: Remote) => PromiseLike<unknown>
  /** The folder in which it runs, and from which `creates` and `removes` are found: as it stands there, `~` and `*` are letters. */
  readonly chdir?: string
  /** It is left out where this is there: a path, which may have `*`, `?` and `[…]`. */
  readonly creates?: string
  /** It is left out where this is not there. */
  readonly removes?: string
  /** What it reads, and a line's end behind it. */
  readonly stdin?: string | Secret
}

/** Runs a command, once: `creates` and `removes` tell whether it was run. Without them it is run each time. What `$` gives is registered. */
export const command = operation<CommandOptions, unknown>({
  name: 'command',
  check: given => checkTogether(checkedOptions<CommandOptions>('command', given, kinds)),
  look: async (context, wanted) => {
    const due: CommandOptions[] = []
    for (const options of wanted) if (await isDue(context, options)) due.push(options)
    return {
      would: due.map(options => `run ${shownCommand(options)}`),
      result: undefined,
      apply: async () => {
        const done: unknown[] = []
        for (const options of due) done.push(await start(context, options))
        return wanted.length === 1 ? done[0] : done
      },
    }
  },
  irreversible: 'what a command did, nobody knows but its playbook',
})

const kinds: Kinds<CommandOptions> = {
  cmd: text,
  argv: { words: 'a list of words, one at least', fits: isWords },
  run: { words: 'a function of $', fits: value => typeof value === 'function' },
  chdir: text,
  creates: text,
  removes: text,
  stdin: textOrSecret,
}

function checkTogether(options: CommandOptions): CommandOptions {
  const { cmd, argv, run, stdin } = options
  if ([cmd, argv, run].filter(one => one !== undefined).length !== 1) {
    throw wrongOptions(
      'command(): one of cmd, argv and run must be given',
      'What needs a shell is written as run: $ => $`…`.',
    )
  }
  if (run && stdin !== undefined)
    throw wrongOptions('command(): a run takes no stdin', 'Write run: $ => $({ input })`…`.')
  if (cmd !== undefined && !words(cmd)[0]) throw wrongOptions(`command({ cmd }): there is no command in it: ${cmd}`)
  return options
}

/** Whether it is to be run. */
async function isDue({ $, host }: HostSession, { chdir, creates, removes }: CommandOptions): Promise<boolean> {
  if (chdir === undefined && creates === undefined && removes === undefined) return true
  const there = (pattern: string) => `{ set -- ${shellPattern(pattern)}; [ -e "$1" ] || [ -L "$1" ]; }`
  const script = [
    ...(chdir === undefined ? [] : [`cd -- ${quote(chdir)} || exit 3`]),
    ...(creates === undefined ? [] : [`! ${there(creates)} || exit 4`]),
    ...(removes === undefined ? [] : [`${there(removes)} || exit 4`]),
  ].join('\n')
  const { exitCode, stderr } = await $({ quiet: true, nothrow: true })`${raw(script)}`
  if (exitCode === 0 || exitCode === 4) return exitCode === 0
  throw new HostFailedError(`${host.name}: ${chdir} can't be worked in: ${stderr.trim()}`, {
    code: 'command.chdir',
    host: host.name,
  })
}

async function start({ $ }: HostSession, { cmd, argv, run, chdir, stdin }: CommandOptions): Promise<unknown> {
  const input = typeof stdin === 'string' ? `${stdin}\n` : stdin
  const here = $({
    ...(chdir === undefined ? {} : { cwd: chdir }),
    ...(input === undefined ? {} : { input }),
  })
  return run ? await run(here) : await here`${argv ?? words(cmd!)}`
}

function isWords(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value[0] !== '' && value.every(anyText.fits)
}

const shownCommand = ({ cmd, argv, run }: CommandOptions) => cmd ?? argv?.map(quote).join(' ') ?? String(run)

/** The words of a command line, with nothing expanded. Throws `RekeyError` where a quote does not end. */
function words(line: string): string[] {
  try {
    return splitShell(line)
  } catch {
    throw wrongOptions(`command(): a quote does not end: ${line}`)
  }
}

/** A path as a word of the shell in which `*`, `?`, `[…]` and a leading `~` count, and nothing else. */
function shellPattern(pattern: string): string {
  const [home] = /^~[a-z0-9_-]*(?=\/|$)/i.exec(pattern) ?? ['']
  const rest = pattern.slice(home.length).replace(/^(?=-)/, './')
  return (
    home +
    rest.replace(/\[!?[\w.-]+\]|[*?]|(?:(?!\[!?[\w.-]+\])[^*?])+/g, part =>
      /^[*?]$|^\[!?[\w.-]+\]$/.test(part) ? part : quote(part),
    )
  )
}
