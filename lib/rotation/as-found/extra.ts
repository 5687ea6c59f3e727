// Certificates of the cluster's CAs that none of its components names, and that the inventory lists: issued with all their names by the CA
// that signed them, and whoever uses them restarted.
import { posix } from 'node:path'
import { z } from 'zod'
import { HostFailedError } from '../../errors.ts'
import { restartUnit } from '../../kubernetes/components/control.ts'
import { type AuthorityKeys, authorityKeys, signerOf } from '../../kubernetes/layout/authorities.ts'
import { componentNames } from '../../kubernetes/layout/host-layout.ts'
import type { MachineReading } from '../../kubernetes/trust/machine.ts'
import { type CertificateFacts, parseCertificate } from '../../pki/certificates/certificate.ts'
import type { AuthorityName, CertificatePlace, CertificateSpec } from '../../pki/specs.ts'
import type { StepDefinition } from '../../playbook/model.ts'
import type { OnHost } from '../given/context.ts'
import { readingOf } from '../given/found.ts'

const extraCertificate = z.strictObject({
  /** Where it lies, on whichever hosts have it. */
  path: z.string().startsWith('/'),
  /** Where its key lies; none for a kubeconfig, and where both are in one file. */
  key: z.string().startsWith('/').optional(),
  /** `user:group`; as it is now, where nothing is said. */
  owner: z.string().optional(),
  /** Of the key, octal: `"0640"`; as it is now, where nothing is said. */
  mode: z
    .string()
    .regex(/^0?[0-7]{3}$/)
    .optional(),
  /** Units to restart once it is in place; components of the cluster are restarted in any case. */
  restart: z.array(z.string()).default([]),
})

export const variables = {
  /** Certificates that a CA of the cluster signed and that no component names. */
  extra_certificates: z.array(extraCertificate).default([]),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

type Vars = { readonly vars: Variables }

/** The entries of the inventory that a host has the file of. */
const entriesOf = ({ vars }: Vars, { certificates }: MachineReading) =>
  vars.extra_certificates.filter(({ path }) => path in certificates)

/**
 * What is to be issued for the entries of the inventory.
 * @param old the CAs of before, PEM, by their role
 * @throws HostFailedError where no host has a file, or none of these CAs signed what is in it
 */
export function specsOf(
  ctx: Vars,
  readings: readonly MachineReading[],
  old: Readonly<Partial<Record<AuthorityName, string>>>,
): CertificateSpec[] {
  for (const { path } of ctx.vars.extra_certificates) {
    if (readings.some(({ certificates }) => path in certificates)) continue
    throw new HostFailedError(`no host has ${path}, which extra_certificates names`, {
      code: 'preflight.extra-certificates',
      hint: 'Is it spelt as it lies there? It must hold a certificate, or be a kubeconfig with one.',
    })
  }
  const found = readings.flatMap(reading =>
    entriesOf(ctx, reading).map(entry => {
      const old = parseCertificate(reading.certificates[entry.path] ?? '', `${reading.host}:${entry.path}`)
      return { reading, entry, old }
    }),
  )
  const keys = authorityKeys(old)
  // One that several hosts share stays one.
  const groups = Map.groupBy(found, ({ entry, old }) => `${entry.path} ${old.fingerprint}`)
  return [...groups.values()].flatMap(group => {
    const [first] = group
    if (!first) return []
    const { entry, reading } = first
    return [
      {
        id: `extra-${posix.basename(entry.path)}`,
        component: 'extra',
        authority: authorityOf(first.old, keys, `${reading.host}:${entry.path}`),
        usages: (['serverAuth', 'clientAuth'] as const).filter(usage => first.old.extendedKeyUsages.includes(usage)),
        place: placeOf(entry, reading),
        hosts: group.map(one => one.reading.host),
        commonName: first.old.commonName,
        organizations: first.old.organizations,
        dnsNames: first.old.dnsNames,
        ipAddresses: first.old.ipAddresses,
        renamed: false,
      },
    ]
  })
}

function placeOf(
  { path, key }: Variables['extra_certificates'][number],
  { kubeconfigs }: MachineReading,
): CertificatePlace {
  if (path in kubeconfigs) return { kind: 'kubeconfig', path }
  return key === undefined || key === path ? { kind: 'combined', path } : { kind: 'pair', certificate: path, key }
}

function authorityOf({ pem }: CertificateFacts, old: AuthorityKeys, where: string): AuthorityName {
  const signer = signerOf(pem, old)
  if (signer) return signer
  throw new HostFailedError(`none of the cluster's CAs signed ${where}, which extra_certificates names`, {
    code: 'preflight.extra-certificates',
    hint: 'What somebody else signed is left alone: take it out of extra_certificates.',
  })
}

/** A reading with the owners and modes that the inventory gives to its certificates. */
export function withOwners(ctx: Vars, reading: MachineReading): MachineReading {
  const given = entriesOf(ctx, reading).flatMap(({ path, key = path, owner, mode }) =>
    [path, key].map(file => {
      const now = reading.files?.[file] ?? { real: file, mode: file === key ? 0o600 : 0o644, owner: 'root:root' }
      const bits = mode !== undefined && file === key ? Number.parseInt(mode, 8) : now.mode
      return [file, { ...now, owner: owner ?? now.owner, mode: bits }] as const
    }),
  )
  return given.length === 0 ? reading : { ...reading, files: { ...reading.files, ...Object.fromEntries(given) } }
}

/** The units that use certificates of these paths on a host, but for components of the cluster. */
const unitsOf = (ctx: OnHost<Variables>, isMeant: (path: string) => boolean = () => true) =>
  [...new Set(entriesOf(ctx, readingOf(ctx)).flatMap(({ path, restart }) => (isMeant(path) ? restart : [])))].filter(
    name => !componentNames.some(one => one === name),
  )

/** Restarts the units that the inventory names for its certificates, on the hosts that have these. */
export const restarted: StepDefinition<OnHost<Variables>> = {
  id: 'restart-what-uses-extra-certificates',
  when: ctx => ctx.vars.extra_certificates.length > 0 && unitsOf(ctx).length > 0,
  plan: ctx => unitsOf(ctx).map(unit => `systemctl restart ${unit}`),
  run: ctx => restartUsers(ctx),
}

/** Restarts those of some of its certificates. */
export async function restartUsers(ctx: OnHost<Variables>, isMeant?: (path: string) => boolean): Promise<void> {
  for (const unit of unitsOf(ctx, isMeant)) await restartUnit(ctx, unit)
}
