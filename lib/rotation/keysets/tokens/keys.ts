// The key of tokens that is to follow: made here, in memory, and kept on the masters until it signs. And what is kept of the one that it follows.
import { join } from 'node:path'
import { secret } from '../../../connection/shell.ts'
import { HostFailedError } from '../../../errors.ts'
import { serviceAccountKeyPair } from '../../../kubernetes/trust/tokens.ts'
import { privateKeysWithin } from '../../../pki/certificates/bundle-text.ts'
import type { HostSession, StepDefinition } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import type { OnHost } from '../../given/context.ts'
import { must } from '../../given/found.ts'
import { isMaster, masters } from '../../given/hosts.ts'
import { destroyFolders, type KeptTokenKey, keptFolder, keptTokenKeys, tokenKeyFiles } from '../kept.ts'
import { type Key, primaryOf, type TokenKeys, tokenKeysOf } from '../state.ts'
import { tokenKeyset } from '../which/chosen.ts'
import { keysIn, publicHalf } from './pem.ts'

type Needs = OnHost<BackupVariables>

/** The step that registers the public half of the key that is to follow. */
const madeStep = 'make-the-new-token-key'

interface Made {
  readonly id: string
  readonly key: string
  /** PEM. */
  readonly publicKey: string
}

/** Whether a run is about the key of tokens. */
export const aboutTokens = (ctx: OnHost): boolean => tokenKeysOf(ctx) !== undefined

/** The keyset of a run that is about it. */
export const stateOf = (ctx: OnHost): TokenKeys => must(tokenKeysOf(ctx), 'the keys of tokens were not looked at')

export const folderOf = (ctx: Needs, { id }: Pick<Key, 'id'>): string => keptFolder(ctx, tokenKeyset, id)

/**
 * Makes the pair that is to follow, where none is kept that was staged and not promoted, and keeps it on every master, for root's eyes alone.
 * Nothing of its private half is kept here.
 */
export const make: StepDefinition<Needs> = {
  id: madeStep,
  runOnce: true,
  when: aboutTokens,
  plan: ctx => `make an RSA key pair in memory, and keep it in ${folderOf(ctx, { id: 'ID' })} of every master`,
  run: async (ctx): Promise<Made> => {
    // One that signs by now follows no more, whatever is written beside it.
    const signing = stateOf(ctx).items.find(({ state }) => state === 'primary')?.key
    const [there] = (await keptTokenKeys(ctx)).filter(
      ({ next, hosts, key }) => next && hosts.length > 0 && key !== signing,
    )
    const pair = there
      ? { publicKey: there.publicKey, privateKey: secretKey(await privateHalf(ctx, there)) }
      : await serviceAccountKeyPair()
    ctx.redact(pair.privateKey.reveal())
    const made = madeOf(pair.publicKey)
    for (const host of ctx.hosts(masters))
      await keep(await ctx.on(host), folderOf(ctx, made), { ...pair, privateKey: pair.privateKey.reveal() }, true)
    ctx.log(`${made.id}${there ? ', made before' : ''}`)
    return made
  },
  rollback: async ctx => {
    // A key that was staged before this run stays.
    const before = new Set(stateOf(ctx).items.flatMap(({ key, kept }) => (kept ? [key] : [])))
    const own = (await keptTokenKeys(ctx)).filter(({ next, key }) => next && !before.has(key))
    for (const host of ctx.hosts(masters))
      await destroyFolders(
        await ctx.on(host),
        own.map(({ publicKey }) => folderOf(ctx, madeOf(publicKey))),
      )
  },
}

function madeOf(publicKey: string): Made {
  const { key } = must(keysIn(publicKey, 'the new key')[0], 'the new key holds none')
  return { id: key.slice(0, 8), key, publicKey }
}

/** The key that this run stages. */
export const madeKey = (ctx: OnHost): Made => must(ctx.registered<Made>(madeStep), 'the new key of tokens was not made')

/** The key that a promotion is about: what is staged, or what one that was broken off has promoted already. */
export function nextKey(ctx: OnHost): Key {
  const { items, name } = stateOf(ctx)
  const staged = items.find(({ state, kept }) => state === 'staged' && kept)
  const half = items.some(({ state }) => state === 'trusted')
    ? items.find(({ state }) => state === 'primary')
    : undefined
  const next = staged ?? half
  if (next) return next
  throw new HostFailedError(`${name} has no key that is staged, and that masters keep`, {
    code: 'keysets.nothing-staged',
    hint: 'Run stage-keysets first: rekey keysets shows how they stand.',
  })
}

/** A key that masters keep. Throws `HostFailedError` where none has its private half. */
export async function keptKey(ctx: Needs, { key, id }: Pick<Key, 'key' | 'id'>): Promise<KeptTokenKey> {
  const found = (await keptTokenKeys(ctx)).find(one => one.key === key && one.hosts.length > 0)
  if (found) return found
  throw new HostFailedError(`no master has the key ${id} of ${tokenKeyset}`, {
    code: 'keysets.no-old-credential',
    hint: `stage-keysets and promote-keysets keep them in ${folderOf(ctx, { id })} on the masters.`,
  })
}

/** The private half of a key that masters keep, PEM; nobody gets to see it. */
export async function privateHalf(ctx: Needs, { hosts, publicKey }: KeptTokenKey): Promise<string> {
  const { files } = await ctx.on(must(hosts[0], 'no master has it'))
  const text = await files.readText(join(folderOf(ctx, madeOf(publicKey)), tokenKeyFiles.private))
  ctx.redact(text)
  return text
}

const secretKey = (text: string) => secret(text, { parts: privateKeysWithin(text) })

async function keep(
  { $, files }: HostSession,
  folder: string,
  { publicKey, privateKey }: { publicKey: string; privateKey: string },
  isNext: boolean,
): Promise<void> {
  await $`umask 077; mkdir -p ${folder}; chmod 700 ${folder}`
  const { public: publicName, private: privateName, next } = tokenKeyFiles
  // Whoever undoes this, or destroys what is kept, goes by these: no private key lies there before them.
  await files.write(join(folder, publicName), publicKey, { mode: 0o600 })
  if (isNext) await files.write(join(folder, next), '', { mode: 0o600 })
  // It counts from here on.
  await files.write(join(folder, privateName), secretKey(privateKey), { mode: 0o600 })
}

/** The keys that a promotion has followed: what signs now. */
export function before(ctx: OnHost): Key[] {
  const { key } = nextKey(ctx)
  return stateOf(ctx).items.filter(one => one.key !== key && (one.state === 'primary' || one.state === 'trusted'))
}

/** Keeps the key that is to be followed on a master: with its public half it can be trusted again, with its private one tried whether it is not. */
export const keepOld = {
  plan: (ctx: Needs): string[] => keptHere(ctx).map(one => `keep ${one.id} in ${folderOf(ctx, one)}`),
  run: async (ctx: Needs): Promise<void> => {
    for (const one of keptHere(ctx)) {
      const privateKey = await signingKey(ctx, one.key)
      if (privateKey === undefined) continue
      await keep(ctx, folderOf(ctx, one), { privateKey, publicKey: publicHalf(privateKey) }, false)
    }
  },
  rollback: async (ctx: Needs): Promise<void> => {
    const gone = keptHere(ctx).filter(({ kept }) => !kept)
    await destroyFolders(
      ctx,
      gone.map(one => folderOf(ctx, one)),
    )
  },
}

const keptHere = (ctx: Needs): Key[] => (isMaster(ctx) && signsHere(ctx) ? before(ctx) : [])

const signsHere = (ctx: OnHost) => (stateOf(ctx).files[ctx.host.name] ?? []).some(({ signs }) => signs)

/** A private key as a file of this host has it. */
async function signingKey(ctx: OnHost, key: string): Promise<string | undefined> {
  for (const { path, signs } of stateOf(ctx).files[ctx.host.name] ?? []) {
    if (!signs) continue
    const text = await ctx.files.readText(path)
    const found = keysIn(text, `${ctx.host.name}:${path}`).find(one => one.isPrivate && one.key === key)
    if (!found) continue
    ctx.redact(found.pem)
    return found.pem
  }
  return undefined
}

/** Says on a master that the new key signs now: it is to follow no more. */
export const noLongerNext: StepDefinition<Needs> = {
  id: 'note-that-the-new-token-key-signs',
  when: ctx => aboutTokens(ctx) && isMaster(ctx),
  plan: () => [],
  run: async ctx => {
    await ctx.$`rm -f ${join(folderOf(ctx, nextKey(ctx)), tokenKeyFiles.next)}`
  },
  rollback: async ctx => {
    const folder = folderOf(ctx, nextKey(ctx))
    if (await ctx.files.exists(folder)) await ctx.files.write(join(folder, tokenKeyFiles.next), '', { mode: 0o600 })
  },
}

/** The public key that signs, PEM, as a file of this host has it. */
export async function primaryHere(ctx: OnHost): Promise<string> {
  const { key } = primaryOf(stateOf(ctx))
  for (const { path } of stateOf(ctx).files[ctx.host.name] ?? []) {
    const found = keysIn(await ctx.files.readText(path), `${ctx.host.name}:${path}`).find(one => one.key === key)
    if (found) return publicHalf(found.pem)
  }
  throw new HostFailedError(`${ctx.host.name} has not the key that signs tokens`, {
    code: 'keysets.behind',
    host: ctx.host.name,
  })
}
