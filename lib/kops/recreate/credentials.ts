// Every key pair, and every secret that kOps makes by itself: kept, deleted from the state store, made anew by `update cluster`, and put back.
import { HostFailedError } from '../../errors.ts'
import { type StepDefinition, unchanged } from '../../playbook/model.ts'
import { keysetsOf, readKeypairs, readKeysets } from '../asked/keypairs.ts'
import type { StateStore } from '../store/store.ts'
import { applyUpdate } from '../update.ts'
import { keepObjects, keptObjects, type Recreation, requireBegun, requireConfirmed, storeOf } from './given.ts'

const notice = [
  'This is the procedure of kOps before 1.22, and it is disruptive. What users will notice:',
  '- The API answers nobody from the removal of etcd’s certificates until the control plane was replaced: a quarter of an hour and more.',
  '- Every instance is replaced, without draining: whatever runs there is cut off, and what pods keep on their machines is gone.',
  '- Pods whose nobody makes another one are gone for good. All others are restarted once more at the end, DNS and the pod network first.',
  '- Every kubeconfig, client certificate and token of before is refused afterwards, those of CI and of monitoring, too.',
  'With kOps 1.22 and later rekey run rotate-kops does the same without an outage.',
]

/** Says what users will notice, and goes on where the cluster's name was typed. */
export const confirmed: StepDefinition<Recreation> = {
  id: 'say-what-users-will-notice',
  readOnly: true,
  run: ctx => {
    for (const line of notice) ctx.log(line)
    if (!ctx.check) requireConfirmed(ctx, 'what is said above')
  },
}

/** How it was before: the primary of each keyset. Plain data. */
export interface CredentialsBefore {
  readonly primaries: Readonly<Record<string, string>>
  /** Secrets that somebody gave to kOps: it could make no others. */
  readonly stays: readonly string[]
  /** How many objects are made anew. */
  readonly objects: number
}

const readStep = 'read-the-credentials'

/** What is made anew: objects of the state store. SSH keys are in the same folder, and are nobody's credential here. */
const isKeypair = (path: string, cluster: string) => /^pki\/(private|issued)\//.test(path.slice(cluster.length + 1))

/** Secrets that `update cluster` makes where they are missing: the list of kOps' pkg/tokens. */
const madeByKops = /^(kubelet|kube-proxy|kube|admin|system:(scheduler|controller_manager|logging|monitoring|dns))$/

async function objectsOf(store: StateStore, cluster: string): Promise<{ anew: string[]; stays: string[] }> {
  const keypairs = (await store.list(`${cluster}/pki`)).filter(path => isKeypair(path, cluster))
  const secrets = await store.list(`${cluster}/secrets`)
  const isMade = (path: string) => madeByKops.test(path.slice(`${cluster}/secrets/`.length))
  return { anew: [...keypairs, ...secrets.filter(isMade)], stays: secrets.filter(path => !isMade(path)) }
}

/** Reads which key pairs and secrets there are, and refuses those that kOps could not make anew. */
export const readCredentials: StepDefinition<Recreation> = {
  id: readStep,
  ...{ readOnly: true, remember: true },
  run: async ctx => {
    const { anew, stays } = await objectsOf(storeOf(ctx), ctx.vars.cluster)
    const pairs = await readKeypairs(ctx)
    const sets = keysetsOf(pairs)
    if (sets.size === 0 || !anew.some(path => isKeypair(path, ctx.vars.cluster))) {
      throw new HostFailedError(`no key pair was found below ${ctx.vars.cluster}/pki of the state store`, {
        code: 'kops.no-keyset',
        hint: 'Does spec.configStore (keyStore) name another place? Then it is none that rekey deletes from.',
      })
    }
    requireOwn(ctx, pairs)
    ctx.log(`${anew.length} objects of the state store are made anew`)
    for (const path of stays) ctx.log(`${path} stays: somebody gave it to kOps, which can make no other`)
    return {
      primaries: Object.fromEntries([...sets.values()].map(({ name, primary }) => [name, primary])),
      stays,
      objects: anew.length,
    } satisfies CredentialsBefore
  },
}

/** A CA that somebody else signed was given to kOps: it would make one that nobody else signed in its place. */
function requireOwn(ctx: Recreation, pairs: readonly Readonly<Record<string, unknown>>[]): void {
  const given = pairs
    .filter(({ distrustTimestamp }) => distrustTimestamp === undefined)
    .filter(({ isCA, subject, issuer }) => isCA === true && subject !== issuer)
    .map(({ name }) => String(name))
    .filter(name => !ctx.vars.accept.includes(`keypair/${name}`))
  if (given.length === 0) return
  throw new HostFailedError(`${given.join(', ')}: a CA that another one has signed, and that kOps can’t make anew`, {
    code: 'kops.given-keypair',
    hint: `Rotate it gracefully with a key pair of yours (kops create keypair NAME --cert FILE --key FILE); or have kOps sign itself from now on: -e '${JSON.stringify({ accept: given.map(name => `keypair/${name}`) })}'`,
  })
}

function beforeOf(ctx: Recreation): CredentialsBefore {
  const before = ctx.registered<CredentialsBefore>(readStep)
  if (before) return before
  throw new HostFailedError('the run has not read the credentials', {
    code: 'kops.no-plan',
    hint: `Its step '${readStep}' can't be left out.`,
  })
}

/** Keeps what will be deleted in the run's folder, and reads it back. */
export const keepCredentials: StepDefinition<Recreation> = {
  id: 'keep-the-credentials',
  plan: () => 'keep every key pair, and every secret that kOps makes, in the run’s folder',
  rollback: () => {},
  run: async ctx => {
    const store = storeOf(ctx)
    const { anew } = await objectsOf(store, ctx.vars.cluster)
    const texts = await Promise.all(anew.map(async path => [path, (await store.get(path))?.text] as const))
    const { objects } = beforeOf(ctx)
    if (anew.length < objects)
      throw new HostFailedError(`of ${objects} objects that were read ${anew.length} are listed now`, {
        code: 'kops.not-kept',
      })
    const gone = texts.find(([, text]) => text === undefined)
    if (gone) throw new HostFailedError(`${gone[0]} went away while it was read`, { code: 'kops.not-kept' })
    const kept = await keepObjects(ctx, Object.fromEntries(texts) as Record<string, string>)
    ctx.log(`${kept.objects} objects`)
    return kept
  },
}

/** Deletes what was kept, and is still as it was then: what was made since stays. */
export const deleteCredentials: StepDefinition<Recreation> = {
  id: 'delete-the-credentials',
  plan: async ctx => (await objectsOf(storeOf(ctx), ctx.vars.cluster)).anew.map(path => `delete ${path}`),
  run: async ctx => {
    await requireBegun(ctx)
    const store = storeOf(ctx)
    let deleted = 0
    for (const [path, text] of Object.entries(await keptObjects(ctx))) {
      ctx.kops.stillLocked()
      const there = await store.get(path)
      if (there?.text === text && (await store.remove(path, there.tag))) deleted++
    }
    return deleted === 0 ? unchanged({ deleted }) : { deleted }
  },
  verify: async ctx => {
    const store = storeOf(ctx)
    for (const [path, text] of Object.entries(await keptObjects(ctx))) {
      if ((await store.get(path))?.text !== text) continue
      throw new HostFailedError(`${path} is there still`, {
        code: 'kops.not-deleted',
        hint: 'Deleting objects of the state store must be allowed. Then: rekey resume, or rekey rollback.',
      })
    }
  },
}

/** What an update may bring beside key pairs: the secrets that it makes. */
const secretsToo = ['Secret', 'MirrorSecrets']

/** Has kOps make new ones. Its page has the update once more where it fails: one key pair may wait for another. */
export const makeCredentials: StepDefinition<Recreation> = {
  id: 'make-the-credentials',
  plan: () => 'kops update cluster --yes',
  run: async ctx => {
    await requireBegun(ctx, 'delete-the-credentials')
    try {
      return await applyUpdate(ctx, secretsToo)
    } catch (error) {
      if (!(error instanceof HostFailedError) || error.code !== 'kops.failed') throw error
      ctx.log(`once more, as kOps' page has it: ${error.message}`)
      return applyUpdate(ctx, secretsToo)
    }
  },
  verify: async ctx => {
    const now = await readKeysets(ctx)
    const { primaries } = beforeOf(ctx)
    const missing = Object.keys(primaries).filter(name => !now.has(name))
    const same = Object.entries(primaries).filter(([name, primary]) => now.get(name)?.primary === primary)
    if (missing.length + same.length > 0) {
      throw new HostFailedError(
        [
          ...(missing.length > 0 ? [`kOps has made no ${missing.join(', ')}`] : []),
          ...same.map(([name, primary]) => `${name} has the primary ${primary} still`),
        ].join('; '),
        {
          code: 'kops.not-made',
          hint: 'See kops update cluster, and kops get keypairs; then rekey resume, or rekey rollback.',
        },
      )
    }
    const left = Object.keys(await keptObjects(ctx))
    const there = new Set((await objectsOf(storeOf(ctx), ctx.vars.cluster)).anew)
    for (const path of left.filter(one => !there.has(one)))
      ctx.log(`${path} was not made anew: this kOps has no use for it`)
  },
}

/** Puts back what was kept, whatever is there now. */
export const putBack: StepDefinition<Recreation> = {
  id: 'put-back-the-credentials',
  run: async ctx => {
    const store = storeOf(ctx)
    let written = 0
    for (const [path, text] of Object.entries(await keptObjects(ctx))) {
      ctx.kops.stillLocked()
      const there = await store.get(path)
      if (there?.text === text) continue
      const tag = there ? await store.replace(path, text, there.tag) : await store.create(path, text)
      if (tag !== undefined) written++
    }
    return written === 0 ? unchanged({ written }) : { written }
  },
  verify: async ctx => {
    const store = storeOf(ctx)
    for (const [path, text] of Object.entries(await keptObjects(ctx))) {
      if ((await store.get(path))?.text === text) continue
      throw new HostFailedError(`${path} is not what it was before`, {
        code: 'kops.not-undone',
        hint: 'Somebody else writes there. What it was lies in the run’s folder: credentials-before.json',
      })
    }
  },
}

/** Brings what was put back to the cloud. */
export const updateBack: StepDefinition<Recreation> = {
  id: 'update-back-the-credentials',
  run: ctx => applyUpdate(ctx, secretsToo),
}
