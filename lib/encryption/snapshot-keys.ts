// Whether API servers can read what lies in a snapshot of etcd of another time: whether they have every key that was there then.
import { HostFailedError } from '../errors.ts'
import { fileOf } from '../kubernetes/components/files.ts'
import type { HostLayout } from '../kubernetes/layout/host-layout.ts'
import type { StepContext, StepDefinition } from '../playbook/model.ts'
import { readConfiguration } from './configuration.ts'
import { idOf, keysIn } from './ledger/keys.ts'

/** An EncryptionConfiguration, and what to call it. */
interface Then {
  readonly where: string
  readonly text: string
}

/** How a step finds what it takes: of the backup, and of each API server of now. */
interface Found<In> {
  isDue(ctx: In): boolean
  /** Of all API servers when the snapshot was made; where files are put back over an etcd of now, of the host's own. */
  archived(ctx: In): Promise<readonly Then[]>
  layout(ctx: In): HostLayout
}

const ofApiServers =
  <In>({ isDue, layout }: Found<In>) =>
  (ctx: In): boolean =>
    isDue(ctx) && layout(ctx).components['kube-apiserver'] !== undefined

/** Fails where the API server of a host has not all keys by which values of the snapshot may lie there. */
export function snapshotIsReadable<In extends StepContext<unknown>>(found: Found<In>): StepDefinition<In> {
  return {
    readOnly: true,
    when: ofApiServers(found),
    run: async ctx => {
      const apiServer = found.layout(ctx).components['kube-apiserver']
      const file = apiServer && fileOf(apiServer, 'encryption')
      const needed = await found.archived(ctx)
      if (keysOfAll(needed).length === 0) return
      const now = file ? [{ where: `${ctx.host.name}:${file.path}`, text: await ctx.files.readText(file.path) }] : []
      requireKeys(needed, now, missing => ({
        message: `${ctx.host.name} has not all keys that the snapshot needs: ${missing}${file ? ` (${file.path})` : ''}`,
        host: ctx.host.name,
        hint: 'Put the files back as well, which hold them (parts=files,etcd); or add these keys to the file first, as providers to read with.',
      }))
    },
  }
}

/** Fails where files that are put back have not all keys by which values lie in etcd now. `now`: of all API servers of now. */
export function etcdIsReadable<In extends StepContext<unknown>>(
  found: Found<In> & { now(ctx: In): Promise<readonly Then[]> },
): StepDefinition<In> {
  return {
    readOnly: true,
    remember: true,
    when: ofApiServers(found),
    run: async ctx => {
      requireKeys(await found.now(ctx), await found.archived(ctx), missing => ({
        message: `the files of ${ctx.host.name} have not all keys by which etcd is encrypted now: ${missing}`,
        host: ctx.host.name,
        hint: 'Choose a backup of after the last rotation of these keys; or put etcd back as well (parts=files,etcd).',
      }))
    },
  }
}

/** Throws where keys of some configurations are in none of others. */
function requireKeys(
  needed: readonly Then[],
  there: readonly Then[],
  told: (missing: string) => { readonly message: string; readonly host: string; readonly hint: string },
): void {
  const has = new Set(keysOfAll(there).map(idOf))
  const missing = new Set(keysOfAll(needed).flatMap(key => (has.has(idOf(key)) ? [] : [key.name])))
  if (missing.size === 0) return
  const { message, host, hint } = told([...missing].join(', '))
  throw new HostFailedError(message, { code: 'restore.missing-key', host, hint })
}

const keysOfAll = (all: readonly Then[]) => all.flatMap(({ where, text }) => keysIn(readConfiguration(text, where)))
