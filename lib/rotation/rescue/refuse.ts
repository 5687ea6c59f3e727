// What is half done so that making certificates anew would not mend it: refused by name, before anything is changed.
import { HostFailedError } from '../../errors.ts'
import {
  authorityFilesOf,
  authorityKeys,
  authorityOf,
  signerOf,
  trustedAuthorities,
} from '../../kubernetes/layout/authorities.ts'
import type { FileRole } from '../../kubernetes/layout/host-layout.ts'
import { layoutOfMachine } from '../../kubernetes/layout/plan.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { dayOfEnd, parseCertificate } from '../../pki/certificates/certificate.ts'
import type { AuthorityName } from '../../pki/specs.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import { beforehand, type OnHost } from '../given/context.ts'
import { layoutOf, readingOf } from '../given/found.ts'
import { everyMachine, masters } from '../given/hosts.ts'
import { keysetOf } from '../keysets/which/chosen.ts'
import { authoritiesByKey } from '../renewal/authorities.ts'
import { seenBefore } from '../renewal/leaves.ts'
import { seenOf } from './look.ts'
import { ended, endsWithin, type Hosts, machinesByThemselves } from './plan.ts'

/**
 * Fails where something is half done that making certificates anew would not mend: hosts that trust another CA, a CA without its key beside it,
 * certificates that no CA of the cluster has signed.
 */
export const refuse: StepDefinition<OnHost> = {
  ...beforehand,
  runOnce: true,
  run: ctx => {
    requireOneAuthority(ctx)
    requireItInKubeconfigs(ctx)
    const names = ctx.hosts(everyMachine).map(({ name }) => name)
    const pair = names.flatMap(name =>
      seenOf(ctx, name).damage.flatMap(({ path, why, authority }) => (authority ? [{ name, path, why }] : [])),
    )[0]
    if (pair) {
      throw new HostFailedError(`${pair.name}: ${pair.path}: ${pair.why}`, {
        code: 'rescue.authority-pair',
        host: pair.name,
        hint: 'What signs by it would sign for nobody. Put back whichever of the two belongs to the CA that the other masters have; it may be in a backup.',
      })
    }
    requireAdministrator(ctx)
    requireOurs(ctx)
  },
}

/** Each file of a CA must hold the one that signs in that role, as the first host has it: what is signed by it is to be known to all. */
function requireOneAuthority(ctx: Hosts): void {
  const known = new Map<AuthorityName, { readonly key: string | undefined; readonly of: string }>()
  for (const { roles, certificate } of authoritiesByKey(ctx))
    for (const role of roles)
      known.set(role, { key: publicKeyOf(certificate), of: parseCertificate(certificate).subject })
  for (const { name } of ctx.hosts(everyMachine)) {
    const { certificates, bundles = {}, files = {} } = readingOf(ctx, name)
    for (const { real, authorities } of authorityFilesOf(layoutOf(ctx, name))) {
      const path = Object.keys(certificates).find(one => (files[one]?.real ?? one) === real)
      const held = path === undefined ? [] : (bundles[path] ?? [certificates[path] ?? ''])
      const missing = authorities.find(
        role => known.has(role) && !held.some(pem => publicKeyOf(pem) === known.get(role)?.key),
      )
      if (missing === undefined || held.length === 0) continue
      throw disagree(
        name,
        `${real} holds another CA ${tellAuthority(held[0] ?? '')} than the one that signs for ${keysetOf(missing)} ("${known.get(missing)?.of}")`,
      )
    }
  }
}

/** Who comes to the API by a kubeconfig knows it by the CA that this holds: with another one it would never get through. */
function requireItInKubeconfigs(ctx: OnHost): void {
  const ca = authoritiesByKey(ctx).find(({ roles }) => roles.includes('kubernetes'))?.certificate
  if (ca === undefined) return
  for (const { name } of ctx.hosts(everyMachine)) {
    const named = Object.values(layoutOf(ctx, name).components).flatMap(found => found?.files ?? [])
    const own = new Set(named.flatMap(({ role, real }) => (role === 'kubeconfig' ? [real] : [])))
    for (const { real, certificates } of seenBefore(ctx, name).files) {
      if (!own.has(real)) continue
      const held = certificates.filter(pem => parseCertificate(pem).isAuthority)
      if (held.length === 0 || held.some(pem => publicKeyOf(pem) === publicKeyOf(ca))) continue
      throw disagree(
        name,
        `${real} holds another CA ${tellAuthority(held[0] ?? '')} than the cluster's ("${parseCertificate(ca).subject}")`,
      )
    }
  }
}

const tellAuthority = (pem: string) => `("${parseCertificate(pem).subject}", until ${dayOfEnd(pem)})`

const disagree = (host: string, what: string) =>
  new HostFailedError(`${host}:${what}`, {
    code: 'rescue.authorities-disagree',
    host,
    hint: 'A CA was replaced on some hosts and not on others. Was it a run of rekey? Go on with it or undo it (rekey runs). Else put the files of one CA, with its key, on all of them: those of before may be in a backup.',
  })

/** Whether API servers are ready, and the cluster well, is asked as the administrator, once that has a new certificate. */
function requireAdministrator(ctx: Hosts): void {
  if (ctx.hosts(masters).some(({ name }) => readingOf(ctx, name).adminKubeconfig !== undefined)) return
  throw new HostFailedError("no master has an administrator's kubeconfig", {
    code: 'rescue.no-administrator',
    hint: 'It may have ended, and gets a new certificate: put one where the masters of this layout have it, for as long as this takes.',
  })
}

/** By what a component comes to another one: whoever is asked knows it by the cluster's CA alone. */
const ofClients: ReadonlySet<FileRole> = new Set([
  ...(['etcd-client', 'kubelet-client', 'front-proxy-client', 'client', 'peer'] as const),
])

/** What a CA of somebody else has signed is nobody's here to make anew: it is named where it has ended, or lets nobody in. */
function requireOurs(ctx: Hosts): void {
  const found = machinesByThemselves(ctx)
  const keys = authorityKeys(trustedAuthorities(found, found.map(layoutOfMachine)))
  for (const { name } of ctx.hosts(everyMachine)) {
    const { certificates } = readingOf(ctx, name)
    for (const { component, files } of Object.values(layoutOf(ctx, name).components)) {
      for (const { path, role, key } of files) {
        const pem = certificates[path]
        if (!key || pem === undefined || authorityOf(component, role) || signerOf(pem, keys)) continue
        const isServed = role === 'serving' && (component === 'kube-apiserver' || component === 'etcd')
        if (!ofClients.has(role) && !(isServed && endsWithin(pem, 0))) continue
        throw new HostFailedError(
          `${name}:${path}, which ${component} goes by, was signed by no CA of the cluster ("${parseCertificate(pem).issuer}") and ${ended(pem)}`,
          {
            code: 'rescue.not-ours',
            host: name,
            hint: 'Was the CA replaced without what is under it? Put the files of the CA that signed this back, with its key, on all hosts. Did somebody else sign it on purpose? Have it made anew there first.',
          },
        )
      }
    }
  }
}
