// What of an old CA is kept on the masters from its successor's promotion to the end: its certificate, its key where that lay there, and the
// certificates that it signed. With these it can be trusted again, and it can be shown that nobody lets them in any more.
import { join } from 'node:path'
import { splitBundle } from '../../pki/certificates/certificate.ts'
import type { KeysetName } from '../../pki/keyset.ts'
import type { RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnHost } from '../given/context.ts'
import { masters } from '../given/hosts.ts'

/** The folder of an item of a keyset on each master. */
export function keptFolder({ vars }: Pick<RunContext<BackupVariables>, 'vars'>, name: KeysetName, id: string): string {
  return join(vars.backup_directory, 'keysets', name, id)
}

/** The certificates of CAs that masters keep for a keyset, PEM, each once. */
export async function keptAuthorities(ctx: OnHost<BackupVariables>, name: KeysetName): Promise<string[]> {
  const found = await Promise.all(
    ctx.hosts(masters).map(async host => {
      const { $ } = await ctx.on(host)
      const folder = join(ctx.vars.backup_directory, 'keysets', name)
      const { stdout } = await $({ nothrow: true, quiet: true })`cat ${folder}/*/ca.crt 2>/dev/null`
      return splitBundle(stdout)
    }),
  )
  return [...new Set(found.flat())]
}
