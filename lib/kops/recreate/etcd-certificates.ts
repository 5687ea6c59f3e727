// The certificates that etcd-manager keeps on the volumes of etcd: it makes them anew from its CA where they are missing, and keeps them where they
// are not, whatever CA signed them.
import { X509Certificate } from 'node:crypto'
import { HostFailedError } from '../../errors.ts'
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { onControlPlane } from '../asked/control-plane.ts'
import { readKeysets } from '../asked/keypairs.ts'
import { keypairOf } from '../asked/kubeconfigs.ts'
import { begin, isBegun, keptObjects, type Recreation, requireBegun, storeOf } from './given.ts'

/** What is removed is renamed, and stays on its volume. */
const suffix = '.before-rekey'

/** `pki/CLUSTER/clients/server.crt`, `pki/CLUSTER/peers/me.key`, on each of the volumes, and nothing else of that name; no link is followed. */
const expression = [
  ...['-type', 'f', '(', '-path', '*/pki/*/clients/server.*', '-o', '-path', '*/pki/*/peers/me.*', ')'],
  ...['!', '-name', `*${suffix}`],
]

const linesOf = (text: string) => text.split('\n').filter(Boolean)

async function list({ $ }: HostSession, volumes: string): Promise<string[]> {
  const { stdout } = await $({ quiet: true })`[ ! -e ${volumes} ] || find ${volumes} ${expression} -print`
  return linesOf(stdout)
}

function requireSome(ctx: Recreation, { name }: { readonly name: string }, files: readonly string[]): void {
  if (files.length > 0) return
  throw new HostFailedError(`${name} has no certificate of etcd below ${ctx.vars.etcd_volumes}`, {
    code: 'kops.no-etcd-certificates',
    hint: 'Where are the volumes of etcd mounted there? -e etcd_volumes=/FOLDER. Is another user to be become (ansible_become)?',
  })
}

/** Sees that each instance of the control plane lets one in, and has such certificates: where one keeps them, the old ones would go on. */
export const findEtcdCertificates: StepDefinition<Recreation> = {
  id: 'find-the-certificates-of-etcd',
  ...{ readOnly: true, remember: true },
  run: async ctx => {
    const found: Record<string, number> = {}
    for (const session of await onControlPlane(ctx)) {
      const files = await list(session, ctx.vars.etcd_volumes)
      const { name } = session.host
      requireSome(ctx, session.host, files)
      for (const file of files) ctx.log(`${name}: ${JSON.stringify(file)}`)
      found[name] = files.length
    }
    return found
  },
}

async function remove(ctx: Recreation): Promise<{ removed: number }> {
  await begin(ctx, 'etcd-certificates')
  const sessions = await onControlPlane(ctx)
  const counts = await Promise.all(
    sessions.map(async session => {
      const { etcd_volumes: volumes } = ctx.vars
      const { name } = session.host
      const { stdout } = await session.$({
        quiet: true,
      })`find ${volumes} ${expression} -exec mv -f {} {}${suffix} ';' -print`
      const left = await list(session, volumes)
      if (left.length > 0)
        throw new HostFailedError(`${name} has ${left.length} certificates of etcd still: ${JSON.stringify(left[0])}`, {
          code: 'kops.not-removed',
          host: name,
          hint: 'Its etcd would go on with the CA of before. Is its volume writable? Then: rekey resume.',
        })
      const removed = linesOf(stdout).length
      ctx.log(`${name}: ${removed} files`)
      return removed
    }),
  )
  return { removed: counts.reduce((all, one) => all + one, 0) }
}

/** Removes them on every instance of the control plane, all at once: from here on the API answers nobody. */
export const removeEtcdCertificates: StepDefinition<Recreation> = {
  id: 'remove-the-certificates-of-etcd',
  plan: ({ vars }) =>
    `rename pki/*/clients/server.* and pki/*/peers/me.* below ${vars.etcd_volumes} on every instance of the control plane`,
  run: async ctx => {
    await requireBegun(ctx, 'make-the-credentials')
    return remove(ctx)
  },
}

/** The same on the way back, where it was begun with on the way there: those that are there now may be of the new CA. */
export const removeEtcdCertificatesBack: StepDefinition<Recreation> = {
  id: 'remove-the-certificates-of-etcd-back',
  when: ctx => isBegun(ctx, 'etcd-certificates'),
  run: remove,
}

/** Which keysets sign each of them: for main and events, and for Cilium's own etcd. */
const signers = [
  { file: /\/clients\/server\.crt$/, keysets: /^etcd-clients-ca/ },
  { file: /\/peers\/me\.crt$/, keysets: /^etcd-peers-ca/ },
]

/** The certificates of CAs of etcd: of a keyset those that it has in the state store, which of them signs, and those of before. */
interface Authority {
  readonly name: string
  readonly signs: X509Certificate
  readonly before: readonly X509Certificate[]
}

async function authoritiesOf(ctx: Recreation): Promise<Authority[]> {
  const kept = ctx.mode === 'rollback' ? {} : await keptObjects(ctx)
  const parsed = (text = '') => certificatesWithin(text).map(pem => new X509Certificate(pem))
  const found: Authority[] = []
  for (const { name, primary } of (await readKeysets(ctx)).values()) {
    if (!signers.some(({ keysets }) => keysets.test(name))) continue
    const path = `${ctx.vars.cluster}/pki/private/${name}/keyset.yaml`
    const signs = parsed((await storeOf(ctx).get(path))?.text).find(one => keypairOf(one) === primary)
    if (signs) found.push({ name, signs, before: parsed(kept[path]) })
    else ctx.log(`${path} holds no certificate by the id ${primary}: whether it signed was not looked at`)
  }
  return found
}

/** Those on a host, by their paths. What is no certificate has none. */
async function read(session: HostSession, volumes: string): Promise<Map<string, X509Certificate | undefined>> {
  const files = (await list(session, volumes)).filter(file => file.endsWith('.crt'))
  const { stdout } = await session.$({
    quiet: true,
  })`[ ! -e ${volumes} ] || find ${volumes} ${expression} -name '*.crt' -size -64k -exec echo ';' -print -exec cat {} ';'`
  const pieces = stdout.matchAll(/^(\/[^\n]*)\n(-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----)/gm)
  const pems = new Map([...pieces].map(([, path, pem]) => [path, pem]))
  return new Map(files.map(file => [file, parsedOr(pems.get(file))]))
}

function parsedOr(pem: string | undefined): X509Certificate | undefined {
  try {
    return pem === undefined ? undefined : new X509Certificate(pem)
  } catch {
    return undefined
  }
}

/** Whose one of them is, where it is not as it should be. */
function strangerOf(file: string, certificate: X509Certificate | undefined, all: readonly Authority[]) {
  const { keysets } = signers.find(one => one.file.test(file))!
  const meant = all.filter(({ name }) => keysets.test(name))
  if (meant.length === 0) return undefined
  if (!certificate) return 'is no certificate'
  if (meant.some(({ signs }) => certificate.verify(signs.publicKey))) return undefined
  const [old] = meant.filter(({ before }) => before.some(one => certificate.verify(one.publicKey)))
  return old ? `is of the ${old.name} of before` : `is not of ${meant.map(({ name }) => name).join(' or ')}`
}

/**
 * Sees, on every instance of the control plane, that those that etcd-manager has made are of the CAs of now: one that was restarted on a machine that
 * waited for its replacement has made them by those of before, and keeps them.
 */
export const seeEtcdCertificates = (id: string): StepDefinition<Recreation> => ({
  id,
  readOnly: true,
  when: ctx => !ctx.check && (ctx.mode !== 'rollback' || isBegun(ctx, 'etcd-certificates')),
  run: async ctx => {
    const all = await authoritiesOf(ctx)
    if (all.length === 0) ctx.log('kOps has no CA of etcd: which ones have signed was not looked at')
    const strange: string[] = []
    for (const session of await onControlPlane(ctx)) {
      const { name } = session.host
      const found = await read(session, ctx.vars.etcd_volumes)
      requireSome(ctx, session.host, [...found.keys()])
      for (const [file, certificate] of found) {
        const why = strangerOf(file, certificate, all)
        if (why !== undefined) strange.push(`${name}: ${JSON.stringify(file)} ${why}`)
      }
      ctx.log(`${name}: ${found.size} certificates`)
    }
    if (strange.length === 0) return
    throw new HostFailedError(`certificates of etcd are not of the CA that signs now:\n  ${strange.join('\n  ')}`, {
      code: 'kops.etcd-other-ca',
      hint: 'Such a member of etcd stays out, or will. There, rename these and the keys beside them, and restart etcd-manager (its container, or the machine), which makes them anew. Then: rekey resume (on the way back rekey rollback).',
    })
  },
})
