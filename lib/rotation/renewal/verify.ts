// What proves from outside that the new certificates are everywhere and nobody was cut off: ports, files, processes, and the copies in the API.
import { X509Certificate } from 'node:crypto'
import { HostFailedError } from '../../errors.ts'
import { clusterInfo } from '../../kubernetes/trust/authority-copies.ts'
import { clientTrustName } from '../../kubernetes/trust/client-trust.ts'
import { objectsHolding } from '../../kubernetes/trust/left-behind.ts'
import { tokenSecrets } from '../../kubernetes/trust/tokens.ts'
import { waitFor } from '../../operations/wait.ts'
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'
import { parseCertificate, verifyChain } from '../../pki/certificates/certificate.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { Variables as CopiesVariables } from '../copies.ts'
import { afterwards, type OnCluster, type OnHost, seconds } from '../given/context.ts'
import { renewedOf } from './authorities.ts'
import { filesOf, restart } from './files.ts'
import { presentedNow, seenBefore } from './leaves.ts'

type Side = 'old' | 'next'

const fingerprint = (pem: string) => parseCertificate(pem).fingerprint

/** Waits until every port of a host presents a certificate that holds under the new CA alone, if one of these has signed it. */
export const ports: StepDefinition<OnHost> = {
  id: 'verify-ports',
  ...afterwards,
  run: async ctx => {
    const before = Object.keys(seenBefore(ctx).ports)
    const what = `the ports of ${ctx.host.name} to present what holds under the new CAs`
    const signed = await waitFor(what, { within: seconds(60), signal: ctx.signal, host: ctx.host.name }, async () => {
      const now = await presentedNow(ctx)
      const silent = before.filter(where => !(where in now))
      if (silent.length > 0) throw new Error(`nothing on ${silent.join(', ')}`)
      return Object.entries(now).filter(([where, chain]) => {
        const leaf = new X509Certificate(chain[0] ?? '')
        const signer = renewedOf(ctx).find(({ next }) => leaf.verify(new X509Certificate(next).publicKey))
        if (signer) verifyChain(chain.join(''), signer.next, { source: where })
        return signer !== undefined
      })
    })
    ctx.log(signed.map(([where]) => where).join(', '))
  },
}

/** Fails where a file of a host has another certificate than it should, or something still goes by what it read before. */
export function hosts(which: Side): StepDefinition<OnHost> {
  const other: Side = which === 'old' ? 'next' : 'old'
  return {
    id: 'verify-hosts',
    ...afterwards,
    run: async ctx => {
      await requireFiles(ctx, other)
      const due = await restart.notStartedSince(ctx)
      if (due.length > 0) throw notThere(ctx, `${due.join(', ')} runs since before it was put in place`)
    },
  }
}

/** Fails where a file of a host that is to hold a CA has another certificate of it than it should. */
export const files: StepDefinition<OnHost> = {
  id: 'verify-files',
  ...afterwards,
  run: ctx => requireFiles(ctx, 'old'),
}

async function requireFiles(ctx: OnHost, other: Side): Promise<void> {
  const wrong = renewedOf(ctx).map(one => one[other])
  const own = filesOf(ctx)
  const held = await Promise.all(
    own.map(async path => [path, certificatesWithin(await ctx.files.readText(path))] as const),
  )
  const left = held.flatMap(([path, pems]) => (pems.some(pem => wrong.includes(pem)) ? [path] : []))
  if (left.length > 0) throw notThere(ctx, `the other certificate is in ${left.join(', ')}`)
  ctx.log(`${own.length} files`)
}

const notThere = ({ host }: OnHost, what: string) =>
  new HostFailedError(`${host.name}: ${what}`, { code: 'verify.renewal', host: host.name })

/** What the controller-manager and API servers write themselves. */
const published = (where: string) => /^ConfigMap \S+\/kube-root-ca\.crt$/.test(where)

/**
 * Waits until the controller-manager has published the CA in every namespace and in every token Secret: none of these holds the other one.
 * Tokens stay what they are.
 */
export function publishedEverywhere(which: Side): StepDefinition<OnCluster> {
  const other: Side = which === 'old' ? 'next' : 'old'
  return {
    id: 'wait-for-root-ca',
    ...afterwards,
    runOnce: true,
    run: async ctx => {
      const what = 'the CA in every kube-root-ca.crt and token Secret'
      await waitFor(what, { within: seconds(180), every: 1_000, signal: ctx.signal }, async () => {
        const api = await ctx.cluster.api()
        const secrets = new Set((await tokenSecrets(api)).map(({ namespace, name }) => `Secret ${namespace}/${name}`))
        const held = await objectsHolding(
          api,
          renewedOf(ctx).map(one => one[other]),
          ctx.signal,
        )
        const left = held.filter(where => published(where) || secrets.has(where))
        if (left.length > 0) throw new Error(`not yet in ${left.slice(0, 5).join(', ')}`)
        return true
      })
    },
  }
}

const leftStep = 'verify-objects'

/** Fails where a copy in the API that a run replaces has another certificate than it should; registers what others hold. */
export function objects(which: Side): StepDefinition<OnCluster<CopiesVariables>> {
  const other: Side = which === 'old' ? 'next' : 'old'
  return {
    id: leftStep,
    ...afterwards,
    runOnce: true,
    run: async ctx => {
      const held = await objectsHolding(
        await ctx.cluster.api(),
        renewedOf(ctx).map(one => one[other]),
        ctx.signal,
      )
      const own = new Set([clusterInfo, clientTrustName, ...ctx.vars.ca_copies])
      const wrong = held.filter(where => own.has(where) || published(where) || !/^(ConfigMap|Secret) /.test(where))
      if (wrong.length > 0)
        throw new HostFailedError(`the API holds the other certificate in ${wrong.join(', ')}`, {
          code: 'verify.renewal',
        })
      return held
    },
  }
}

/** Objects of others that still hold an old certificate, as people call them. */
export const objectsLeft = (ctx: Pick<OnHost, 'registered'>): string[] => ctx.registered<string[]>(leftStep) ?? []

/** Waits until every port presents, byte for byte, what it presented before: nothing was issued, on the way there or back. */
export const sameLeaves: StepDefinition<OnHost> = {
  id: 'verify-leaves',
  ...afterwards,
  run: async ctx => {
    const signed = (pem: string) =>
      renewedOf(ctx).some(({ old }) => new X509Certificate(pem).verify(new X509Certificate(old).publicKey))
    const before = Object.entries(seenBefore(ctx).ports).filter(([, [leaf = '']]) => signed(leaf))
    await waitFor(
      `the certificates of before on the ports of ${ctx.host.name}`,
      { within: seconds(60), signal: ctx.signal, host: ctx.host.name },
      async () => {
        const now = await presentedNow(ctx)
        for (const [where, [leaf = '']] of before) {
          if (now[where]?.[0] === undefined || fingerprint(now[where][0]) !== fingerprint(leaf))
            throw new Error(`another one on ${where}`)
        }
        return true
      },
    )
  },
}
