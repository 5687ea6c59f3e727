// What lies in the files of every machine, and what its ports present: who holds a CA, and which certificates it has signed.
import { X509Certificate } from 'node:crypto'
import { posix } from 'node:path'
import { HostFailedError, type RekeyError } from '../../errors.ts'
import { fileCertificates } from '../../kubernetes/census/files.ts'
import { servedCertificates } from '../../kubernetes/census/ports.ts'
import { presentedBy } from '../../kubernetes/layout/served.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { parseCertificate, verifyChain } from '../../pki/certificates/certificate.ts'
import { namesIssuerBySerial } from '../../pki/issuer/renewal.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type * as extra from '../as-found/extra.ts'
import { beforehand, type OnHost } from '../given/context.ts'
import { layoutOf, must, readingOf, realOf } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'

/** A file with certificates, as it lies there. Plain data. */
interface HeldFile {
  /** Where it lies when links are followed. */
  readonly real: string
  readonly mode: number
  /** By numbers: `0:0`. */
  readonly owner: string
  /** Its certificates, PEM, those in base64 among them. */
  readonly certificates: readonly string[]
}

/** What was seen on a machine. Plain data. */
export interface Seen {
  readonly files: readonly HeldFile[]
  /** What each port presents, leaf first, by where that is: `m1:6443`. */
  readonly ports: Readonly<Record<string, readonly string[]>>
}

const lookStep = 'look-for-certificates'

/** Registers what lies on a host and what its ports present. */
export const look: StepDefinition<OnHost<extra.Variables>> = {
  id: lookStep,
  ...beforehand,
  run: async (ctx): Promise<Seen> => ({ files: await filesNow(ctx), ports: await presentedNow(ctx) }),
}

/** What was seen on a host before the first change. Throws `HostFailedError` where nobody looked. */
export function seenBefore(ctx: OnHost, host = ctx.host.name): Seen {
  return must(ctx.registered<Seen>(lookStep, host), 'nobody looked for certificates')
}

async function filesNow(ctx: OnHost<extra.Variables>): Promise<HeldFile[]> {
  const folders = ctx.vars.extra_certificates.map(({ path }) => posix.dirname(path))
  const entries = await fileCertificates(ctx, ctx.log, [...new Set(folders)])
  const places = [...Map.groupBy(entries, ({ place = '' }) => place)]
  const paths = places.map(([path]) => path)
  const { stdout } = await ctx.$({
    quiet: true,
  })`for p in ${paths}; do stat -Lc '%a %u:%g' -- "$p" || exit; readlink -f -- "$p" || exit; done`
  const told = stdout.split('\n')
  const files = new Map<string, HeldFile>()
  for (const [index, [, held]] of places.entries()) {
    const [bits = '', owner = ''] = (told[2 * index] ?? '').split(' ')
    const real = told[2 * index + 1] ?? ''
    files.set(real, { real, mode: Number.parseInt(bits, 8), owner, certificates: held.map(({ facts }) => facts.pem) })
  }
  return [...files.values()]
}

/** What the ports of a host present, leaf first. Closed ports are left out. */
export async function presentedNow(ctx: OnHost): Promise<Record<string, string[]>> {
  const entries = await servedCertificates(ctx, ctx.log, presentedBy(layoutOf(ctx)))
  return Object.fromEntries(
    [...Map.groupBy(entries, ({ where }) => where)].map(([where, chain]) => [
      where,
      chain.map(({ facts }) => facts.pem),
    ]),
  )
}

/** Files of people, and what somebody put aside: they are told, and left as they are, unless a component names them. */
export const isAside = (path: string): boolean =>
  /^\/(root|home)\/|\/\.kube\/|(^|[/._-])(backups?|bak|old|orig)([/._-]|$)|~$/i.test(path)

/** What is called by a date, or saved: somebody put it aside, unless something names it. */
export const isDated = (path: string): boolean =>
  /(^|[/._-])(saved?|(19|20)\d\d([-_.]?\d\d){0,5}|1[67]\d{8})([/._T-]|$)/i.test(path)

const holds = (file: HeldFile, ca: string) => file.certificates.some(pem => publicKeyOf(pem) === publicKeyOf(ca))

/**
 * The files of a host that hold one of these CAs.
 * @returns those that are to hold the new certificates, and those that are left as they are: of people, and in somebody's backups
 */
export function filesWith(
  ctx: OnHost,
  authorities: readonly string[],
  host = ctx.host.name,
): { readonly own: readonly HeldFile[]; readonly left: readonly HeldFile[] } {
  const { adminKubeconfig = '' } = readingOf(ctx, host)
  const named = new Set([
    ...Object.values(layoutOf(ctx, host).components).flatMap(found => found?.files.map(({ real }) => real) ?? []),
    // In somebody's home, and the cluster's all the same.
    realOf(ctx, adminKubeconfig, host),
  ])
  const all = seenBefore(ctx, host).files.filter(file => authorities.some(ca => holds(file, ca)))
  const isLeft = ({ real }: HeldFile) => isAside(real) && !named.has(real)
  return { own: all.filter(file => !isLeft(file)), left: all.filter(isLeft) }
}

interface Leaf {
  readonly where: string
  readonly pem: string
}

/** What a CA has signed, in files and on ports of every machine. */
function signedBy(ctx: OnHost, ca: string): Leaf[] {
  const key = new X509Certificate(ca).publicKey
  const own = publicKeyOf(ca)
  return ctx.hosts(everyMachine).flatMap(({ name }) => {
    const { files, ports } = seenBefore(ctx, name)
    return [
      ...files.flatMap(({ real, certificates }) => certificates.map(pem => ({ where: `${name}:${real}`, pem }))),
      ...Object.entries(ports).flatMap(([where, chain]) => chain.map(pem => ({ where, pem }))),
    ].filter(({ pem }) => publicKeyOf(pem) !== own && new X509Certificate(pem).verify(key))
  })
}

/** Whether anything that a CA has signed, or the CA itself, names it by its serial number. */
export function issuersByName(ctx: OnHost, ca: string): boolean {
  return [ca, ...signedBy(ctx, ca).map(({ pem }) => pem)].some(namesIssuerBySerial)
}

/**
 * Verifies all that a CA has signed, as it was seen, by its new certificate alone. What did not hold by the old one does not count.
 * @returns how many certificates hold
 * @throws HostFailedError naming those that would not hold any more
 */
export function verifyLeaves(ctx: OnHost, { old, next }: { readonly old: string; readonly next: string }): number {
  const leaves = signedBy(ctx, old)
  const wrong = (leaf: Leaf, ca: string): string | undefined => {
    try {
      verifyChain(leaf.pem, ca, { source: leaf.where })
      return undefined
    } catch (error) {
      return (error as RekeyError).message
    }
  }
  const held = leaves.filter(leaf => wrong(leaf, old) === undefined)
  const broken = held.flatMap(leaf => wrong(leaf, next) ?? [])
  if (broken.length > 0) {
    throw new HostFailedError(
      `under the new certificate of "${parseCertificate(old).subject}" they would not hold: ${broken.slice(0, 5).join('; ')}`,
      {
        code: 'renewal.leaves',
        hint: 'Nothing was put in place yet. Undo this run, and have them issued anew before, or by rotate-ca.',
      },
    )
  }
  return new Set(held.map(({ pem }) => pem)).size
}
