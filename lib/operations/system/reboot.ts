// `reboot`: starts a host anew, and waits until it is back: in another boot, and well enough for what is asked of it then.
import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { raw } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import type { StepContext } from '../../playbook/model.ts'
import { operation } from '../operation.ts'
import { checkedOptions, type Kinds, text } from '../options.ts'
import { waitFor } from '../wait.ts'
import { milliseconds } from './wait-for-port.ts'

/** How a host is started anew. Times are milliseconds. */
export interface RebootOptions {
  /** `systemctl reboot`, or `reboot`, where nothing is said. */
  readonly rebootCommand?: string
  /** What those who are logged in to the host are told. */
  readonly msg?: string
  /** Until it must be back: 600,000 where nothing is said. */
  readonly rebootTimeout?: number
  /** Before it goes down: 2,000 where nothing is said, so that the command that asks for it has ended. */
  readonly preRebootDelay?: number
  /** After it is back, before it is asked for anything. */
  readonly postRebootDelay?: number
  /** A command that must end well before the host counts as back. */
  readonly testCommand?: string
}

const kinds: Kinds<RebootOptions> = {
  rebootCommand: text,
  msg: text,
  rebootTimeout: milliseconds,
  preRebootDelay: milliseconds,
  postRebootDelay: milliseconds,
  testCommand: text,
}

/** Reboots hosts. A resumed run that finds its step cut off in the middle reboots them again. */
export const reboot = operation<RebootOptions, { readonly milliseconds: number } | undefined>({
  name: 'reboot',
  check: given => checkedOptions<RebootOptions>('reboot', given, kinds),
  look: async (context, wanted) => {
    if (context.host.connection.kind === 'local') {
      throw new HostFailedError(
        `${context.host.name} is the machine that rekey runs on: it would not see it come back`,
        {
          code: 'reboot.local',
          host: context.host.name,
        },
      )
    }
    return {
      would: wanted.length === 0 ? [] : ['reboot'],
      result: undefined,
      apply: async () => await restart(context, wanted.at(-1)!),
    }
  },
  irreversible: 'a host was started anew',
})

/** How long one look at a host that may be going down is waited for. */
const patience = 15_000

async function restart(context: StepContext, options: RebootOptions): Promise<{ milliseconds: number }> {
  const { $, host, signal } = context
  const { rebootCommand, msg, rebootTimeout = 600_000, preRebootDelay = 2_000, postRebootDelay = 0 } = options
  // Some hosts show nobody the processes of others.
  const hasFirst = await context.files.exists('/proc/1/stat')
  const before = await bootOf(context, hasFirst)
  const began = performance.now()
  const command = rebootCommand ?? 'if command -v systemctl >/dev/null; then systemctl reboot; else reboot; fi'
  const told = msg === undefined ? '' : `command -v wall >/dev/null && printf '%s\\n' "$1" | wall; `
  // The command that asks for it ends before the host does: nobody has to guess how it ended. Where it fails, it leaves a word.
  const own = `/tmp/.rekey-reboot-${randomBytes(8).toString('hex')}`
  // A host that has no room for that is started anew all the same.
  const noted = `(${command}\n) >${own}/said 2>&1 || { s=$?; [ $s -ge 128 ] || { echo $s >${own}/s; mv ${own}/s ${own}/status; }; }`
  const later = `sleep ${preRebootDelay / 1_000}; if [ -d ${own} ]; then ${noted}; else ${command}\nfi`
  const begin = `${told}mkdir -m 700 ${own} 2>/dev/null; setsid sh -c "$2" </dev/null >/dev/null 2>&1 &`
  await $`set -- ${msg ?? ''} ${later}; ${raw(begin)}`
  context.log(`${host.name} is started anew`)
  await delay(preRebootDelay, undefined, { signal })
  const how = { within: rebootTimeout, every: 1_000, signal, host: host.name }
  const came = await waitFor(`${host.name} to be back, in another boot`, how, async () => {
    const late = delay(patience, undefined, { ref: false })
    const look = async () => {
      if ((await bootOf(context, hasFirst)) !== before) return 'back'
      return (await context.files.exists(`${own}/status`)) && 'refused'
    }
    return Promise.race([look(), late])
  })
  const said = came === 'refused' ? await context.files.readText(`${own}/said`) : ''
  const status = came === 'refused' ? await context.files.readText(`${own}/status`) : ''
  // A host that has just come back may lose its connections once more: that is no matter.
  const tidy = () => $({ nothrow: true, quiet: true })`rm -rf ${own}`.catch(() => signal.throwIfAborted())
  if (came === 'refused') {
    await tidy()
    throw new HostFailedError(
      `${host.name}: what starts it anew ended with ${Number.parseInt(status, 10)}: ${foreignWords(said, 500)}`,
      { code: 'command.failed', host: host.name, hint: 'It was not started anew.' },
    )
  }
  await delay(postRebootDelay, undefined, { signal })
  await tidy()
  const { testCommand } = options
  if (testCommand !== undefined) {
    const left = Math.max(1_000, rebootTimeout - (performance.now() - began))
    const test = waitFor(`'${testCommand}' to end well`, { ...how, within: left }, async () => {
      return (await $({ nothrow: true, quiet: true })`sh -c ${testCommand}`).exitCode === 0
    })
    // How it ended is known, though its connection was lost on the way: that is what was asked for.
    await test.catch(error => {
      signal.throwIfAborted()
      const message = `${host.name} is in another boot: ${(error as Error).message}`
      throw new HostFailedError(message, { code: 'command.failed', host: host.name, cause: error })
    })
  }
  return { milliseconds: Math.round(performance.now() - began) }
}

/**
 * What tells a boot from others: the kernel's own word and, for a machine that shares a kernel, when its first process began. Asked in
 * a way that a connection that drops in the middle leaves nothing open.
 */
async function bootOf({ files }: StepContext, hasFirst: boolean): Promise<string> {
  const boot = await files.readText('/proc/sys/kernel/random/boot_id')
  const stat = hasFirst ? await files.readText('/proc/1/stat') : ''
  return `${boot.trim()} ${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''}`
}
