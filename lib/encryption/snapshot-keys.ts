// Whether API servers can read what lies in a snapshot of etcd of another time: whether they have every key that was there then.
import { HostFailedError } from '../errors.ts'
import { fileOf } from '../kubernetes/components/files.ts'
import type { HostLayout } from '../kubernetes/layout/host-layout.ts'
import type { StepContext, StepDefinition } from '../playbook/model.ts'
import { type EncryptionConfiguration, type Provider, readConfiguration } from './configuration.ts'

/** An EncryptionConfiguration of when the snapshot was made. */
interface Then {
  readonly where: string
  readonly text: string
}

/** How a step finds what it takes: of the snapshot, and of each API server of now. */
interface Found<In> {
  isDue(ctx: In): boolean
  archived(ctx: In): Promise<readonly Then[]>
  /** What runs on the host; undefined where that is not known. */
  layout(ctx: In): HostLayout
}

/** Fails where the API server of a host has not all keys by which values of the snapshot may lie there. */
export function snapshotIsReadable<In extends StepContext<unknown>>(found: Found<In>): StepDefinition<In> {
  return {
    readOnly: true,
    when: ctx => found.isDue(ctx) && found.layout(ctx).components['kube-apiserver'] !== undefined,
    run: async ctx => {
      const then = (await found.archived(ctx)).flatMap(({ where, text }) => keysIn(readConfiguration(text, where)))
      if (then.length === 0) return
      const apiServer = found.layout(ctx).components['kube-apiserver']
      const file = apiServer && fileOf(apiServer, 'encryption')
      const text = file && (await ctx.files.readText(file.path))
      const now = new Set(
        text === undefined
          ? []
          : keysIn(readConfiguration(text, `${ctx.host.name}:${file?.path}`)).map(({ key }) => key),
      )
      const missing = [...new Set(then.filter(({ key }) => !now.has(key)).map(({ name }) => name))]
      if (missing.length === 0) return
      throw new HostFailedError(
        `${ctx.host.name} has not all keys that the snapshot needs: ${missing.join(', ')}${file ? ` (${file.path})` : ''}`,
        {
          code: 'restore.missing-key',
          host: ctx.host.name,
          hint: 'Put the files back as well, which hold them (parts=files,etcd); or add these keys to the file first, as providers to read with.',
        },
      )
    },
  }
}

/** How a step finds what it takes of files that are put back over an etcd of now. */
interface FoundNow<In> {
  isDue(ctx: In): boolean
  /** Of the host's files that are put back. */
  archived(ctx: In): Promise<readonly Then[]>
  /** Of all API servers of now. */
  now(ctx: In): Promise<readonly Then[]>
  layout(ctx: In): HostLayout
}

/** Fails where files that are put back have not all keys by which values lie in etcd now. */
export function etcdIsReadable<In extends StepContext<unknown>>(found: FoundNow<In>): StepDefinition<In> {
  return {
    readOnly: true,
    remember: true,
    when: ctx => found.isDue(ctx) && found.layout(ctx).components['kube-apiserver'] !== undefined,
    run: async ctx => {
      const keysOf = (all: readonly Then[]) => all.flatMap(({ where, text }) => keysIn(readConfiguration(text, where)))
      const then = new Set(keysOf(await found.archived(ctx)).map(({ key }) => key))
      const missing = keysOf(await found.now(ctx)).filter(({ key }) => !then.has(key))
      if (missing.length === 0) return
      throw new HostFailedError(
        `the files of ${ctx.host.name} have not all keys by which etcd is encrypted now: ${[...new Set(missing.map(({ name }) => name))].join(', ')}`,
        {
          code: 'restore.missing-key',
          host: ctx.host.name,
          hint: 'Choose a backup of after the last rotation of these keys; or put etcd back as well (parts=files,etcd).',
        },
      )
    },
  }
}

/** Every key and plugin that values may lie under: what tells one from another, and what people call it. */
function keysIn({ rules }: EncryptionConfiguration): { key: string; name: string }[] {
  return rules.flatMap(({ providers }) => providers.flatMap(keysOf))
}

function keysOf(provider: Provider): { key: string; name: string }[] {
  if (provider.kind === 'identity') return []
  if (provider.kind === 'kms')
    return [{ key: `kms ${provider.version} ${provider.name}`, name: `kms ${provider.version} ${provider.name}` }]
  return provider.keys.map(({ name, secret }) => ({
    key: `${provider.kind} ${name} ${secret.reveal()}`,
    name: `${provider.kind} ${name}`,
  }))
}
