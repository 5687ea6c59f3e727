// How hosts are now, held against what the backup says of them, before a restore changes anything: does the control plane run in the same way, and
// do the files of then go with the cluster of now?
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { archiveIn, type FilesManifest } from '../../kubernetes/backups/manifest.ts'
import { archivedFile } from '../../kubernetes/backups/verify.ts'
import { discover } from '../../kubernetes/layout/discover.ts'
import type { ComponentName, FoundComponent, HostLayout } from '../../kubernetes/layout/host-layout.ts'
import { readArchive } from '../../operations/tar-reading.ts'
import { digestOf, publicKeysOf } from '../../pki/certificates/bundle-text.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { beforehand, type OnHost, where } from '../given/context.ts'
import { apiServerHosts, layoutOf } from '../given/found.ts'
import { backupOf, filesFor, has, type Variables } from './given.ts'
import { controlPlane, processesOn } from './stop.ts'

type Needs = OnHost<Variables>

const runsStep = 'see-what-runs-there-now'

/** What of the control plane a host ran before the first change; all that it has, where nobody looked. */
export const ranOn = (ctx: OnHost): readonly ComponentName[] =>
  ctx.registered<readonly ComponentName[]>(runsStep, ctx.host.name) ?? controlPlane

/**
 * Registers what of the control plane a host runs. Fails where it runs otherwise than the restore would stop and start it: in pods of the API, or
 * not as it did when its files were backed up.
 */
export const runsAlike: StepDefinition<Needs> = {
  ...beforehand,
  id: runsStep,
  run: async (ctx): Promise<readonly ComponentName[]> => {
    const then = layoutOf(ctx).components
    const now = has(ctx, 'files') ? ((await layoutNow(ctx))?.components ?? {}) : then
    for (const component of [...controlPlane, 'kubelet'] as const) {
      const [before, found] = [then[component], now[component]]
      if ([before, found].some(one => one?.runs.kind === 'pod'))
        throw otherLayout(
          ctx.host.name,
          `${component} is a pod of the API there, which can't be stopped for as long as etcd is put back`,
        )
      if (!found || (component === 'kubelet' && !before)) continue
      if (before && startedBy(before) === startedBy(found)) continue
      const was = before ? `was ${startedBy(before)}` : 'was not there'
      throw otherLayout(
        ctx.host.name,
        `${component} is ${startedBy(found)} now, and ${was} when the files were backed up`,
      )
    }
    const running = await Promise.all(
      controlPlane.map(async name => (then[name] && (await processesOn(ctx, then[name])).length > 0 ? [name] : [])),
    )
    return running.flat()
  },
}

const startedBy = ({ runs }: FoundComponent): string =>
  runs.kind === 'unit' ? runs.unit : runs.kind === 'static-pod' ? 'a static pod' : 'a pod of the API'

const otherLayout = (host: string, why: string) =>
  new HostFailedError(`${host}: ${why}`, {
    code: 'restore.layout',
    host,
    hint: 'Have it run as it did then, and stop what runs now; or put etcd alone back: -e parts=etcd. A self-hosted control plane is put back by hand.',
  })

/** What runs on a host now; `undefined` where that can't be told, as something is missing there. */
async function layoutNow({ $, host, log, signal }: OnHost): Promise<HostLayout | undefined> {
  try {
    return (await discover({ $, host })).layout
  } catch (error) {
    signal.throwIfAborted()
    log(`WARNING: what runs on ${host.name} now can't be told: ${(error as Error).message}`)
    return undefined
  }
}

/** Whether files go over an etcd that stays as it is. */
export const keepsEtcd = (ctx: Needs): boolean => has(ctx, 'files') && !has(ctx, 'etcd')

/** Whether that is looked at: nobody has accepted whatever comes of it. */
export const mustFit = (ctx: Needs): boolean => keepsEtcd(ctx) && !ctx.vars.accept_other_trust

/** An API server of now: its files can be read through the session. */
interface ServerOfNow {
  readonly session: HostSession
  readonly found: FoundComponent
}

/** The API servers of now on the masters that the backup knows, of the run or not; only those that can be asked. */
async function serversOfNow(ctx: Needs): Promise<ServerOfNow[]> {
  const hosts = backupOf(ctx).files.filter(({ reading }) => reading.controlPlane)
  const found = await Promise.all(
    hosts.map(async ({ host }) => {
      try {
        const session = await ctx.on(host)
        const apiServer = (await discover(session)).layout.components['kube-apiserver']
        return apiServer ? [{ session, found: apiServer }] : []
      } catch (error) {
        ctx.signal.throwIfAborted()
        ctx.log(`${host} can't be asked what its API server goes by: ${(error as Error).message}`)
        return []
      }
    }),
  )
  return found.flat()
}

/** By which keys a cluster goes, each role by itself: the SHA-256 of public keys, sorted. */
const trusted = {
  'client-ca': 'CA',
  'etcd-ca': 'CA of etcd',
  'service-account-verify': 'key of service accounts',
} as const

type Role = keyof typeof trusted

/** The public keys of the files that an API server names for a role; `undefined` where one of them can't be read. */
async function keysOf(
  { files }: FoundComponent,
  role: Role,
  read: (path: string) => Promise<string | undefined>,
): Promise<string | undefined> {
  const texts = await Promise.all(files.filter(one => one.role === role).map(({ real }) => read(real)))
  const keys = texts.map(text => (text === undefined ? undefined : keysIn(text)))
  return keys.includes(undefined) ? undefined : [...new Set(keys.flatMap(one => one ?? []))].sort().join(' ')
}

function keysIn(text: string): string[] | undefined {
  const certified = [...publicKeysOf(text)]
  if (certified.length > 0) return certified
  try {
    const pem = secret(text).reveal()
    return [digestOf(/PRIVATE KEY/.test(pem) ? createPublicKey(createPrivateKey(pem)) : createPublicKey(pem))]
  } catch {
    return undefined
  }
}

/** Fails where files of masters would bring back CAs or keys of service accounts that the cluster does not go by, or nobody can be asked. */
export const sameTrust: StepDefinition<Needs> = where<Needs>(mustFit, {
  ...beforehand,
  runOnce: true,
  run: async ctx => {
    const targets = apiServerHosts(ctx).map(({ name }) => filesFor(ctx, name))
    if (targets.length === 0) return
    const servers = await serversOfNow(ctx)
    const archives = await Promise.all(targets.map(files => readArchive(archiveIn(backupOf(ctx), files))))
    for (const role of Object.keys(trusted) as Role[]) {
      const now = await Promise.all(
        servers.map(async ({ session, found }) => ({
          host: session.host.name,
          keys: await keysOf(found, role, path => session.files.readText(path).catch(() => undefined)),
        })),
      )
      ctx.signal.throwIfAborted()
      const known = now.filter(({ keys }) => keys !== undefined)
      if (known.length === 0) throw otherTime(`nobody can be asked which ${trusted[role]} the cluster goes by now`)
      for (const [index, files] of targets.entries()) {
        const archive = archives[index]
        const then = await keysOf(
          apiServerOf(files),
          role,
          async path => archive && archivedFile(archive, path)?.toString('utf8'),
        )
        // What a host has itself may be what is to be put right: others are asked first.
        const others = known.filter(({ host }) => host !== files.host)
        if ((others.length > 0 ? others : known).some(({ keys }) => keys !== then))
          throw otherTime(`the files of ${files.host} have another ${trusted[role]} than the cluster goes by now`)
      }
    }
  },
})

function apiServerOf({ host, reading }: FilesManifest): FoundComponent {
  const found = reading.layout?.components['kube-apiserver']
  if (found) return found
  throw otherTime(`the backup does not say what the API server of ${host} goes by`)
}

const otherTime = (why: string) =>
  new HostFailedError(why, {
    code: 'restore.other-time',
    hint: 'Put etcd back as well, of the same time (parts=files,etcd); or, where you know better, -e accept_other_trust=true.',
  })

/**
 * EncryptionConfigurations of now, on all masters that can be asked: text, and what to call it.
 * @throws HostFailedError where none can be asked
 */
export async function encryptionNow(ctx: Needs): Promise<{ where: string; text: string }[]> {
  const servers = await serversOfNow(ctx)
  if (servers.length === 0) throw otherTime('nobody can be asked by which keys etcd is encrypted now')
  const texts = await Promise.all(
    servers.map(async ({ session, found }) => {
      const file = found.files.find(({ role }) => role === 'encryption')
      if (!file) return []
      const where = `${session.host.name}:${file.path}`
      const text = await session.files.readText(file.real).catch(() => {
        ctx.signal.throwIfAborted()
        throw otherTime(`${where} can't be read, which says by which keys etcd is encrypted now`)
      })
      return [{ where, text }]
    }),
  )
  return texts.flat()
}
