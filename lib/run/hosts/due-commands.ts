// Commands that are due on a host since files of theirs changed. Kept on the host from before the files change until the command
// is done, so that one that failed, or that a crash kept from running, is run by whoever comes next.
import { quote } from '../../connection/shell.ts'
import type { HostSession } from '../../playbook/model.ts'
import { inHostFolder } from './host-folder.ts'

/** The commands that are due on one host, by ids that may stand in a file's name. */
export interface DueCommands {
  list(): Promise<ReadonlySet<string>>
  add(ids: readonly string[]): Promise<void>
  done(ids: readonly string[]): Promise<void>
}

/** The list of a host. Nothing is asked of the host before the first call. */
export function dueCommands({ $, host }: Pick<HostSession, '$' | 'host'>): DueCommands {
  const run = async (body: string) => (await $({ quiet: true })`sh -c ${inHostFolder(host, body)}`).stdout
  const paths = (ids: readonly string[]) => ids.map(id => `"$d"/commands-due/${quote(id)}`).join(' ')
  return {
    list: async () => new Set((await run('ls "$d/commands-due" 2>/dev/null; true')).split('\n').filter(Boolean)),
    add: async ids => {
      if (ids.length === 0) return
      await run(`set -e; umask 077; mkdir -p "$d/commands-due"; touch ${paths(ids)}; sync "$d/commands-due"`)
    },
    done: async ids => {
      if (ids.length > 0) await run(`rm -f ${paths(ids)}; rmdir "$d/commands-due" 2>/dev/null; true`)
    },
  }
}
