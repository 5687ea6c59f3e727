// A credential is tried by a pull, on each node, by the node's own container runtime: the call that a kubelet makes for a pod (CRI's PullImage), so that the
// node's way to the registry, its mirrors and whom it trusts count. `crictl` may not be there, and `ctr` takes a password in its arguments or on a terminal.
import { foreignWords } from '../../foreign-words.ts'
import { type Call, callGrpc } from '../../operations/grpc/call.ts'
import { messageOf } from '../../operations/grpc/protobuf.ts'
import { waitFor } from '../../operations/wait.ts'
import type { Host } from '../../playbook/host.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { isAccepted, machines, refused } from '../given.ts'
import type { Credential } from './docker-config.ts'
import { type Context, ids, nextOf, nodeOf, oldOf, planOf } from './given.ts'

/** What came of a pull: `denied` where the registry did not take the credential, or the lack of one. */
interface Pulled {
  readonly is: 'pulled' | 'left out' | 'denied' | 'failed'
  /** The runtime's words, where it did not pull. */
  readonly why: string
}

/** In a check nothing is brought to a node: what is not there is not pulled. */
interface Options {
  readonly within: number
  readonly check: boolean
}

const service = 'runtime.v1.ImageService'

/** Whether a registry's refusal, as runtimes tell it, is about who asks. */
const isDenied = (why: string) =>
  /\b(401|403)\b|unauthorized|authorization failed|access denied|authentication required|no basic auth|forbidden/i.test(
    why,
  )

/** Has the runtime of a node pull an image, whether it has it or not: it asks the registry in any case. Throws where the runtime can't be asked. */
async function pull(
  session: HostSession,
  socket: string,
  image: string,
  credential: Credential | undefined,
  { within, check }: Options,
): Promise<Pulled> {
  const spec = messageOf([[1, image]])
  const ask = async (method: string, fields: Call['fields'], seconds: number) => {
    const outcome = await callGrpc(session, { socket, service, method, fields, within: seconds })
    if (outcome.kind !== 'none') return outcome
    throw refused(
      'registry.no-runtime',
      `the container runtime of ${session.host.name} at ${socket} ${outcome.why}`,
      outcome.hint ?? 'Does it run there? It must serve runtime.v1 of CRI: containerd 1.6 and later, CRI-O.',
      session.host.name,
    )
  }
  if (check) {
    const status = await ask('ImageStatus', [[1, spec]], 30)
    if (status.kind !== 'answer' || !status.fields.has(1)) return { is: 'left out', why: '' }
  }
  const auth =
    credential &&
    messageOf([
      [1, credential.user],
      [2, credential.password],
    ])
  const outcome = await ask(
    'PullImage',
    [[1, spec], ...(auth ? ([[2, auth]] as const) : [])],
    Math.ceil(within / 1_000),
  )
  if (outcome.kind === 'answer') return { is: 'pulled', why: '' }
  // The part about who asked comes at the end.
  const why = foreignWords(outcome.why, 1_000)
  return { is: isDenied(why) ? 'denied' : 'failed', why: why.length > 400 ? `…${why.slice(-400)}` : why }
}

/** Whether a host pulls at all: masters that are no nodes have no kubelet, and often no runtime. */
const isPuller = (ctx: Context, host: string) => nodeOf(ctx, host).node !== undefined

/** A host that pulls; where there is one, one whose runtime has no credential of its own. */
function onePuller(ctx: Context): Host {
  const hosts = ctx.hosts(machines).filter(({ name }) => isPuller(ctx, name))
  const host = hosts.find(({ name }) => !nodeOf(ctx, name).hasOwn) ?? hosts[0]
  if (host) return host
  throw refused(
    'registry.no-node',
    'no host of the run is a node',
    'Nobody would pull: are nodes in the inventory, and in the run?',
  )
}

const optionsOf = ({ vars, check }: Context): Options => ({ within: vars.pull_within, check })

const notTried = (image: string) => `${image} is not there, and a check brings nothing: not tried`

const failed = (host: string, image: string, why: string) =>
  refused(
    'registry.pull',
    `${host} can not pull ${image}: ${why}`,
    'Is the registry reached from there, and does it have the image? Say another one: -e registry_images=…',
    host,
  )

/** Each node asks without a credential, and is refused: a registry that lets anybody pull would take any, and prove nothing. */
export const without: StepDefinition<Context> = {
  id: ids.without,
  readOnly: true,
  remember: true,
  when: ctx => isPuller(ctx, ctx.host.name),
  run: async (ctx): Promise<{ pulls: boolean }> => {
    const { socket, hasOwn } = nodeOf(ctx, ctx.host.name)
    for (const image of planOf(ctx).images) {
      const pulled = await pull(ctx, socket, image, undefined, optionsOf(ctx))
      if (pulled.is === 'failed') throw failed(ctx.host.name, image, pulled.why)
      if (pulled.is !== 'pulled') continue
      if (hasOwn) ctx.log(`its runtime pulls ${image} by a credential of its own: what pods bring is not asked for`)
      else if (isAccepted(ctx, `open/${ctx.vars.registry}`)) ctx.log(`${image} is pulled by anybody`)
      else
        throw refused(
          'registry.open',
          `${ctx.host.name} pulls ${image} without a credential`,
          `A pull of it proves nothing. Name an image that takes one: -e registry_images=…; or accept it: open/${ctx.vars.registry}`,
          ctx.host.name,
        )
      return { pulls: true }
    }
    return { pulls: false }
  },
}

/** The registry takes the old one, still: there is a way back, and nobody is cut off while nodes and Secrets differ. */
export const old: StepDefinition<Context> = {
  id: ids.old,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<{ valid: number[] }> => {
    const { passwords, images } = planOf(ctx)
    const host = onePuller(ctx)
    const session = await ctx.on(host)
    const valid: number[] = []
    for (const [index, password] of passwords.entries()) {
      const credential = { user: ctx.vars.registry_user, password: password.reveal() }
      const pulled = await pull(session, nodeOf(ctx, host.name).socket, images[0]!, credential, optionsOf(ctx))
      if (pulled.is === 'failed') throw failed(host.name, images[0]!, pulled.why)
      if (pulled.is === 'left out') ctx.log(notTried(images[0]!))
      if (ctx.registered<{ pulls: boolean }>(ids.without, host.name)?.pulls)
        ctx.log('each runtime asks by a credential of its own: whether the old one is taken is not proven')
      if (pulled.is !== 'denied') valid.push(index)
    }
    const wrong = passwords.length - valid.length
    if (wrong > 0) ctx.log(`${wrong} of ${passwords.length} passwords of ${ctx.vars.registry_user} are refused already`)
    if (valid.length > 0 || isAccepted(ctx, 'old/refused')) return { valid }
    throw refused(
      'registry.old-refused',
      `the registry takes no credential of ${ctx.vars.registry_user} that was found`,
      'Both must hold while one takes the place of the other. Where the old one was revoked already, accept it: old/refused; there is no way back then.',
    )
  },
}

/** Each node pulls with the new one. `when`: `before` the first change, or `after` the last. */
export const proven = (when: 'before' | 'after'): StepDefinition<Context> => ({
  id: `pull-with-the-new-one-${when}`,
  readOnly: true,
  when: ctx => isPuller(ctx, ctx.host.name) && !(when === 'after' && ctx.check),
  run: async ctx => {
    for (const image of planOf(ctx).images) await requirePull(ctx, image)
  },
})

/** Has one node pull with the new one. */
export async function pullOnce(ctx: Context): Promise<void> {
  const host = onePuller(ctx)
  const { socket } = nodeOf(ctx, host.name)
  await pull(await ctx.on(host), socket, planOf(ctx).images[0]!, nextOf(ctx), optionsOf(ctx))
}

/** Throws where the node of a step does not pull with the new one. */
async function requirePull(ctx: Context, image: string): Promise<void> {
  const credential = nextOf(ctx)
  const pulled = await pull(ctx, nodeOf(ctx, ctx.host.name).socket, image, credential, optionsOf(ctx))
  if (pulled.is === 'left out') ctx.log(notTried(image))
  if (pulled.is === 'failed') throw failed(ctx.host.name, image, pulled.why)
  if (pulled.is === 'denied')
    throw refused(
      'registry.refused',
      `the registry does not take the new credential from ${ctx.host.name} for ${image}: ${pulled.why}`,
      `Let ${credential.user} pull it, beside the other one, before anything is changed.`,
      ctx.host.name,
    )
}

/**
 * The old one is taken, or the way back would cut off whoever uses what is put back. For rollbacks; one that was not taken before is not put back. Asked by
 * a node whose runtime brings none of its own: where all do, whoever puts their files back must see whether they pull.
 */
export async function requireOldIsTaken(ctx: Context): Promise<void> {
  const credential = oldOf(ctx)
  const [image] = planOf(ctx).images
  if (image === undefined) return
  if (!credential) throw revoked({ user: ctx.vars.registry_user }, ctx.host.name)
  const own = ctx.host.name
  const { name } = isPuller(ctx, own) && !nodeOf(ctx, own).hasOwn ? ctx.host : onePuller(ctx)
  const pulled = await pull(await ctx.on(name), nodeOf(ctx, name).socket, image, credential, optionsOf(ctx))
  if (pulled.is === 'denied') throw revoked(credential, name)
  if (pulled.is === 'failed') throw failed(name, image, pulled.why)
}

const revoked = ({ user }: Pick<Credential, 'user'>, host: string) =>
  refused(
    'registry.old-revoked',
    `the registry does not take the credential of ${user} any more: what was put back would pull nothing`,
    'Allow it again at the registry, then undo once more; or stay with the new one.',
    host,
  )

/** How long a runtime may take to serve once it was started anew. */
const startsWithin = 60_000

/** Waits until the runtime of a node serves: a unit that is active has not looked at its containers yet. */
export async function runtimeServes(ctx: Context): Promise<void> {
  const { socket } = nodeOf(ctx, ctx.host.name)
  const spec = messageOf([[1, planOf(ctx).images[0] ?? '']])
  const options = { within: startsWithin, signal: ctx.signal, host: ctx.host.name }
  await waitFor('the container runtime to serve', options, async () => {
    const call = { socket, service, method: 'ImageStatus', fields: [[1, spec]], within: 10 } as const
    const outcome = await callGrpc(ctx, call)
    if (outcome.kind === 'answer') return true
    throw new Error(outcome.why)
  })
}

/**
 * The runtime of a node pulls by a credential of its own, where it did so before. Files that were put back are taken away again where it does not: `undo`.
 * @throws HostFailedError where it does not
 */
export async function requireOwnPull(ctx: Context, undo?: () => Promise<void>): Promise<void> {
  const { hasOwn, socket } = nodeOf(ctx, ctx.host.name)
  if (!ctx.registered<{ pulls: boolean }>(ids.without, ctx.host.name)?.pulls || !hasOwn) return
  for (const image of planOf(ctx).images) {
    const pulled = await pull(ctx, socket, image, undefined, optionsOf(ctx))
    if (pulled.is === 'pulled' || pulled.is === 'left out') continue
    await undo?.()
    const old = undo && oldOf(ctx)
    throw old && pulled.is === 'denied' ? revoked(old, ctx.host.name) : failed(ctx.host.name, image, pulled.why)
  }
}
