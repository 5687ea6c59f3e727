// What nodes themselves hold: files that kubelets and container runtimes read. They are found on each node, edited alone where the credential stands, and put
// back byte for byte.
import { readFileSync } from 'node:fs'
import { Secret } from '../../connection/shell.ts'
import { restartUnit } from '../../kubernetes/components/control.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import { socketOf } from '../../operations/grpc/call.ts'
import { ownFile } from '../../package.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { afterwards, type ReadingOf, refused } from '../given.ts'
import { entriesOf, withCredential } from './docker-config.ts'
import { type Context, ids, isOld, type Node, type NodeFile, nextOf, nodeOf } from './given.ts'
import { partly, secretsOf } from './holders.ts'
import { requireOldIsTaken, requireOwnPull, runtimeServes } from './pull.ts'
import { credentialsIn, withRuntimeCredential } from './runtime-config.ts'

/** More is no configuration of a kubelet or a runtime, all files of a node together. */
const mostBytes = 8 * 1024 * 1024

/** A file as the script tells of it. */
interface Told {
  readonly path: string
  readonly real: string
  readonly mode: number
  readonly owner: string
  readonly kind: NodeFile['kind']
  readonly text: string
}

/** Reads what a node has, and registers what of it holds the credential. */
export const lookAtNode = (readingOf: ReadingOf): StepDefinition<Context> => ({
  id: ids.node,
  readOnly: true,
  remember: true,
  run: async (ctx): Promise<Node> => {
    const reading = readingOf(ctx)
    const found = await filesOf(ctx, reading)
    const flags = reading.layout?.components.kubelet?.flags ?? {}
    if (flags['image-credential-provider-config'])
      ctx.log('its kubelet also asks a program for credentials (--image-credential-provider-config): that has its own')
    const passwords = new Map<string, ReturnType<typeof secretsOf>>()
    const files: NodeFile[] = []
    for (const file of found) {
      const old = oldPasswordsIn(ctx, file)
      if (old.length === 0) continue
      for (const one of old) passwords.set(one, secretsOf(one, ctx.vars.registry_user))
      ctx.log(file.path)
      files.push({ ...file, text: partly(file.text, [...passwords.values()]) })
    }
    const endpoint = flags['container-runtime-endpoint']?.at(-1) ?? 'unix:///run/containerd/containerd.sock'
    return {
      ...(reading.nodeName !== undefined && { node: reading.nodeName }),
      socket: socketOf(endpoint),
      ...{ files, passwords: [...passwords.values()].map(([password]) => password) },
      hasOwn: found.some(file => file.kind === 'runtime' && credentialsIn(file, ctx.vars.registry).length > 0),
      restarts: files.some(isReadAtStart),
    }
  },
})

/** No file of a node has the old credential: none that was changed has got it back, and no node has come with one meanwhile. */
export const noneHasIt = (readingOf: ReadingOf): StepDefinition<Context> => ({
  ...afterwards,
  id: 'no-file-has-the-old-one',
  run: async ctx => {
    const left = (await filesOf(ctx, readingOf(ctx))).filter(file => oldPasswordsIn(ctx, file).length > 0)
    if (left.length === 0) return
    throw refused(
      'registry.written-back',
      `${ctx.host.name} has the old credential (again): ${left.map(({ path }) => path).join(', ')}`,
      'Something writes it there: a tool that keeps nodes as it knows them, or an image that they are made from. Give that the new one, then go on: rekey resume. Do not revoke the old one before.',
      ctx.host.name,
    )
  },
})

/** `hosts.toml` is read at each pull, `config.toml` when containerd starts. */
const isReadAtStart = ({ kind, path }: Pick<NodeFile, 'kind' | 'path'>) =>
  kind === 'runtime' && !path.endsWith('/hosts.toml')

/** The passwords that a file has of the old user for the registry, other than the new one. */
function oldPasswordsIn(ctx: Context, { kind, path, text }: Told): string[] {
  const { registry, registry_user: user } = ctx.vars
  const own =
    kind === 'runtime'
      ? credentialsIn({ path, text }, registry).filter(one => one.user === user)
      : entriesOf(text, kind, registry, user).entries
  return own.map(({ password }) => password).filter(password => isOld(nextOf(ctx), ctx.vars, password))
}

async function filesOf(session: HostSession, { layout }: MachineReading): Promise<Told[]> {
  const kubelet = layout?.components.kubelet
  const root = kubelet?.flags['root-dir']?.at(-1) ?? '/var/lib/kubelet'
  const script = readFileSync(ownFile('lib/credentials/registry/find-files.sh'), 'utf8')
  const { stdout } = await session.$({
    quiet: true,
  })`{ sh -c ${script} rekey ${root} ${String(kubelet?.processes[0] ?? '')}; } | head -c ${mostBytes}`
  const lines = stdout.split('\n')
  if (!lines.includes('end'))
    throw refused(
      'registry.node-files',
      `${session.host.name}: what its kubelet and its runtime read was not read to its end`,
      'Is there anything unusual in /etc/containerd? More than 8 MiB of configuration is not read.',
      session.host.name,
    )
  const known = new Map<string, Told>()
  for (const line of lines) {
    const [word, kind, path, real, mode, owner, text] = line.split(' ')
    if (word !== 'file' || text === undefined) continue
    const plain = (one = '') => Buffer.from(one, 'base64').toString('utf8')
    const file = {
      path: plain(path),
      real: plain(real),
      mode: Number.parseInt(mode!, 8),
      owner: owner!,
      text: plain(text),
    }
    // One that has two names is one.
    if (!known.has(file.real)) known.set(file.real, { ...file, kind: kind as Told['kind'] })
  }
  return [...known.values()]
}

/** What a file holds once it has the new credential. */
function nextText(ctx: Context, { kind, path, text }: NodeFile): string {
  const { registry, registry_user: user } = ctx.vars
  return kind === 'runtime'
    ? withRuntimeCredential({ path, text: text.reveal() }, registry, user, nextOf(ctx))
    : withCredential(text.reveal(), kind, registry, user, nextOf(ctx))
}

/** Makes of each file what will be made of it: what can't be edited is told before anything is changed. */
export const plan: StepDefinition<Context> = {
  id: 'plan-the-files',
  readOnly: true,
  run: async ctx => {
    const { files, restarts } = nodeOf(ctx, ctx.host.name)
    for (const file of files) nextText(ctx, file)
    if (!restarts || (await ctx.$({ nothrow: true, quiet: true })`systemctl is-active ${runtimeUnit}`).exitCode === 0)
      return
    throw refused(
      'registry.no-unit',
      `${ctx.host.name} has the credential in containerd's config.toml, and no unit ${runtimeUnit} that runs`,
      'containerd reads it when it starts: take it out of there (hosts.toml, or Secrets), or have it run by that unit.',
      ctx.host.name,
    )
  },
}

/** Who reads `config.toml`. */
const runtimeUnit = 'containerd.service'

/** Puts the new credential into the files of a node, and has its runtime started anew where that reads them then. Pods go on meanwhile. */
export const put: StepDefinition<Context> = {
  id: ids.files,
  when: ctx => nodeOf(ctx, ctx.host.name).files.length > 0,
  plan: ctx => {
    const { files, restarts } = nodeOf(ctx, ctx.host.name)
    return [
      ...files.map(({ path }) => `put the credential of ${nextOf(ctx).user} into ${path}`),
      ...(restarts ? ['restart containerd, which reads that when it starts'] : []),
    ]
  },
  run: async ctx => {
    const changed: string[] = []
    for (const file of nodeOf(ctx, ctx.host.name).files) {
      const now = await ctx.files.readText(file.real)
      const next = nextText(ctx, file)
      // Also what was written before a kill: kubelets go by what they had read until then.
      if (next !== file.text.reveal()) changed.push(file.path)
      if (now === next) continue
      if (now !== file.text.reveal())
        throw refused(
          'registry.changed-meanwhile',
          `${ctx.host.name}:${file.path} was changed since it was looked at`,
          'See who did, and begin anew: rekey rollback for this run, then another one.',
          ctx.host.name,
        )
      await write(ctx, file, next)
    }
    await restart(ctx)
    return { changed, at: new Date() }
  },
  verify: ctx => requireOwnPull(ctx),
  rollback: async ctx => {
    await requireOldIsTaken(ctx)
    const back: NodeFile[] = []
    for (const file of nodeOf(ctx, ctx.host.name).files) {
      const now = await ctx.files.readText(file.real)
      if (now === file.text.reveal()) continue
      if (now !== nextText(ctx, file)) {
        ctx.log(`${file.path} was changed since by somebody else, and is left as it is`)
        continue
      }
      await write(ctx, file, file.text.reveal())
      back.push(file)
    }
    await restart(ctx)
    await requireOwnPull(ctx, async () => {
      for (const file of back) await write(ctx, file, nextText(ctx, file))
      await restart(ctx)
    })
  },
}

const write = ({ files }: Context, { real, mode, owner, text }: NodeFile, next: string) =>
  files.write(real, new Secret(next, text.parts()), { mode, owner, secret: true })

/** Begun again, it is restarted again: whether it was, nobody wrote down. */
async function restart(ctx: Context): Promise<void> {
  if (!nodeOf(ctx, ctx.host.name).restarts) return
  await restartUnit(ctx, runtimeUnit)
  await runtimeServes(ctx)
}
