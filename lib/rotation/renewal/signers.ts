// Who can sign a CA anew: an issuer of Vault that has its key, or a host where that lies beside the certificate.
import { type Secret, secret } from '../../connection/shell.ts'
import { HostFailedError, RekeyError } from '../../errors.ts'
import { keyNamesOf } from '../../kubernetes/layout/authorities.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { keyMatches, parseCertificate } from '../../pki/certificates/certificate.ts'
import { renewedRoot, requireSame, rootToSign } from '../../pki/issuer/renewal.ts'
import { authorityPlans } from '../../pki/specs.ts'
import type { PolicyLine, Vault } from '../../pki/vault/contract.ts'
import type { RunContext } from '../../playbook/model.ts'
import type { OnHost } from '../given/context.ts'
import { layoutOf, must, readingOf } from '../given/found.ts'
import { everyMachine } from '../given/hosts.ts'
import type { WithVault } from '../given/vault.ts'

interface Variables {
  readonly pki_mount: string
  readonly vault_addr?: string | undefined
}

/** Who signs: an issuer of Vault, or a key on a host. Plain data. */
export type Signer =
  | { readonly kind: 'vault'; readonly mount: string; readonly issuer: string; readonly isDefault: boolean }
  | { readonly kind: 'host'; readonly host: string; readonly path: string }

/** Where it is, for people. */
export const tellSigner = (signer: Signer) =>
  signer.kind === 'vault' ? `in Vault, ${signer.mount}/issuer/${signer.issuer}` : `${signer.host}:${signer.path}`

/**
 * Who has the key of a CA: an issuer of Vault, or else a host.
 * @param names what the CA is called
 * @param otherwise what to do where nobody has it and nobody is to get it, after "or"
 * @param needs what the operator's token must be allowed to do in Vault
 * @throws HostFailedError where nobody has it
 */
export async function requireSigner(
  ctx: OnHost<Variables> & WithVault,
  certificate: string,
  { names, otherwise, needs }: { names: string; otherwise: string; needs?: typeof signingPolicy },
): Promise<Signer> {
  const signer = (await issuerInVault(ctx, certificate, needs)) ?? (await keyOnHosts(ctx, certificate))
  if (signer) return signer
  const vault =
    ctx.vars.vault_addr === undefined ? 'no Vault was named' : `Vault has none in ${mountsOf(ctx).join(', ')}`
  throw new HostFailedError(
    `the key of ${names} ("${parseCertificate(certificate).subject}") was found nowhere: ${vault}, and no host has it beside the certificate`,
    {
      code: 'preflight.no-key',
      hint: `Put it beside its certificate on a master, as ${keyNamesOf('ca.crt').join(' or ')}, for as long as this takes; or ${otherwise}`,
    },
  )
}

/** The mounts that are looked into. */
const mountsOf = ({ vars }: { readonly vars: Pick<Variables, 'pki_mount'> }) =>
  authorityPlans('three', { mount: vars.pki_mount }).map(({ mount }) => mount)

/** The issuer with a CA's key in Vault; the default one, where several have it. */
async function issuerInVault(
  ctx: OnHost<Variables> & WithVault,
  certificate: string,
  needs = signingPolicy,
): Promise<Signer | undefined> {
  if (ctx.vars.vault_addr === undefined) return undefined
  const vault = await ctx.vault.operator()
  await vault.requireUnsealed()
  for (const mount of mountsOf(ctx)) {
    const issuers = await issuersOf(vault, mount)
    const same = issuers.filter(one => one.keyId !== '' && publicKeyOf(one.certificate) === publicKeyOf(certificate))
    const [first] = [...same.filter(one => one.isDefault), ...same]
    if (!first) continue
    await vault.requireCapabilities(needs(mount, first.id))
    return { kind: 'vault', mount, issuer: first.id, isDefault: first.isDefault }
  }
  return undefined
}

async function issuersOf(vault: Vault, mount: string) {
  const ids = await vault.listIssuers(mount).catch((error: RekeyError) => {
    // No rotation has come from this Vault.
    if (error.code === 'issuer.no-such-mount') return []
    throw error
  })
  if (ids.length === 0) return []
  const main = (await vault.readIssuer(mount, 'default'))?.id
  const all = await Promise.all(ids.map(id => vault.readIssuer(mount, id)))
  return all.flatMap(one => (one ? [{ ...one, isDefault: one.id === main }] : []))
}

/** What the operator's token needs. */
const signingPolicy = (mount: string, issuer: string): PolicyLine[] => [
  { path: `${mount}/issuer/${issuer}/sign-self-issued`, capabilities: ['update', 'sudo'] },
  { path: `${mount}/issuers/import/cert`, capabilities: ['update'] },
  { path: `${mount}/config/issuers`, capabilities: ['update'] },
  { path: `${mount}/issuer/+`, capabilities: ['read', 'update', 'delete'] },
  { path: `${mount}/roles`, capabilities: ['list'] },
  { path: `${mount}/roles/+`, capabilities: ['read'] },
]

/** Where a host has the key of a CA: beside one of its files, by the names that such keys have. */
async function keyOnHosts(ctx: OnHost, certificate: string): Promise<Signer | undefined> {
  for (const host of ctx.hosts(everyMachine)) {
    const { certificates, files = {} } = readingOf(ctx, host.name)
    const own = Object.keys(certificates).filter(
      path => publicKeyOf(certificates[path] ?? '') === publicKeyOf(certificate),
    )
    const named = Object.values(layoutOf(ctx, host.name).components).flatMap(found => found?.files ?? [])
    const paths = [
      ...named.flatMap(file => (own.includes(file.path) && file.key ? [file.key.real] : [])),
      ...own.flatMap(path => [path, files[path]?.real ?? path]).flatMap(keyNamesOf),
    ]
    for (const path of new Set(paths)) {
      const text = await keyText(ctx, host.name, path)
      if (text !== undefined && isKeyOf(certificate, text)) return { kind: 'host', host: host.name, path }
    }
  }
  return undefined
}

/** A key as it lies on a host, PEM; undefined where it does not. It is a secret from here on. */
export async function keyText(ctx: OnHost, host: string, path: string): Promise<string | undefined> {
  const { files } = await ctx.on(host)
  if (!(await files.exists(path))) return undefined
  const key: Secret = secret(await files.readText(path))
  return key.reveal()
}

function isKeyOf(certificate: string, key: string): boolean {
  try {
    return keyMatches(certificate, key)
  } catch (error) {
    // Somebody else's, or one that needs a passphrase.
    if (error instanceof RekeyError) return false
    throw error
  }
}

type Times = Parameters<typeof renewedRoot>[2]

/** Signs with the key of a host. */
export async function signedHere(
  ctx: OnHost,
  { host, path }: Extract<Signer, { kind: 'host' }>,
  old: string,
  times: Times,
) {
  const key = must(await keyText(ctx, host, path), `${host}:${path} is not there any more`)
  return renewedRoot(old, key, times)
}

type VaultSigner = Extract<Signer, { kind: 'vault' }>

/** What an operator may have set on an issuer: the new one goes on with it. */
const issuerSettings = [
  ...['leaf_not_after_behavior', 'usage', 'revocation_signature_algorithm', 'enable_aia_url_templating'],
  ...['issuing_certificates', 'crl_distribution_points', 'ocsp_servers'],
]

/** The name of what a run makes in Vault: by it a run that was cut off finds it again. */
const issuerName = ({ run }: Pick<RunContext, 'run'>) => `rekey-${run}`

/** Has Vault sign, and issue by the new certificate where it has issued by the old one. */
export async function signedByVault(
  ctx: OnHost & WithVault,
  signer: VaultSigner,
  old: string,
  times: Times,
): Promise<string> {
  const { mount, issuer, isDefault } = signer
  await takeBack(ctx, signer, old)
  const vault = await ctx.vault.operator()
  const { data } = await vault.write(`${mount}/issuer/${issuer}/sign-self-issued`, {
    certificate: await rootToSign(old, times),
  })
  const next = `${String(data['certificate']).trim()}\n`
  requireSame(next, old)
  const [id = ''] = await vault.importIssuers(mount, next)
  const settings = (await vault.read(`${mount}/issuer/${issuer}`))?.data ?? {}
  await vault.write(`${mount}/issuer/${id}`, {
    ...Object.fromEntries(issuerSettings.flatMap(name => (name in settings ? [[name, settings[name]]] : []))),
    issuer_name: issuerName(ctx),
  })
  await tellPinnedRoles(ctx, vault, mount, issuer)
  if (isDefault) await vault.setDefaultIssuer(mount, id)
  else ctx.log(`${mount} in Vault issues from another CA, and goes on with that: the new certificate is issuer ${id}`)
  return next
}

/** Roles that name the old issuer go on with it, and issue nothing that ends after it. */
async function tellPinnedRoles(ctx: OnHost, vault: Vault, mount: string, issuer: string): Promise<void> {
  const name = (await vault.read(`${mount}/issuer/${issuer}`))?.data['issuer_name']
  for (const role of (await vault.list(`${mount}/roles`)) ?? []) {
    const pinned = (await vault.readRole(mount, role))?.['issuer_ref']
    if (pinned === issuer || (name !== '' && pinned === name))
      ctx.log(
        `the role ${mount}/roles/${role} names the old issuer, and goes on with that: issuer_ref=${String(pinned)}`,
      )
  }
}

/** Has Vault issue by the certificate of before, and takes away the one that this run made; the key stays, which both have. */
export async function takeBack(
  ctx: OnHost & WithVault,
  { mount, issuer, isDefault }: VaultSigner,
  old: string,
): Promise<void> {
  const vault = await ctx.vault.operator()
  const made = await vault.readIssuer(mount, issuerName(ctx))
  if (isDefault) await vault.setDefaultIssuer(mount, issuer)
  if (made && publicKeyOf(made.certificate) === publicKeyOf(old)) await vault.deleteIssuer(mount, made.id)
}
