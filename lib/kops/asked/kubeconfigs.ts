// The kubeconfigs of a run, in its folder: those to hand to people, and the admin credential that kops itself is called with.
import { X509Certificate } from 'node:crypto'
import { chmod, mkdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { HostFailedError } from '../../errors.ts'
import { kubeconfigFields } from '../../kubernetes/api/kubeconfig.ts'
import type { Context } from '../context.ts'
import { kops } from './command.ts'
import { credentials, type Exported, kubeconfigFile, renewedCredentials } from './places.ts'

/** What a kubeconfig says. */
export interface Kubeconfig {
  readonly server: string
  /** The CAs that it trusts; none where the API has a load balancer with a certificate of its own. */
  readonly authorities: readonly X509Certificate[]
  readonly certificate?: string
  readonly key?: string
}

/** Has kops write a kubeconfig into the run's folder, for its user alone. Returns what it says. */
export async function exportKubeconfig(ctx: Context, name: Exported, withAdmin: boolean): Promise<Kubeconfig> {
  const file = kubeconfigFile(ctx, name)
  await mkdir(join(ctx.folder, 'kubeconfigs'), { recursive: true, mode: 0o700 })
  // It is written beside the one of before, which kops would add to, and which may be what it is called with.
  const next = `${file}.next`
  await rm(next, { force: true })
  const admin = withAdmin ? [`--admin=${Math.round(ctx.vars.admin / 1_000)}s`] : []
  await kops(ctx, ['export', 'kubecfg', ...admin, '--kubeconfig', next], { what: 'kops to export a kubeconfig' })
  await chmod(next, 0o600)
  const said = await readExported(next)
  if (!name.endsWith('-renewed')) await rm(kubeconfigFile(ctx, `${name}-renewed` as Exported), { force: true })
  await rename(next, file)
  return said
}

/**
 * Reads the admin credential of the run, for something that takes so long: another one is exported where it would end before. A run that soaked,
 * or is gone on with or undone later, has outlived the one that it began with.
 */
export async function lastingCredentials(ctx: Context, within: number): Promise<Kubeconfig> {
  const said = await readExported(credentials(ctx))
  if (said.certificate === undefined || endOf(said.certificate) >= Date.now() + within) return said
  ctx.log('the admin credential would end in the middle: another one is exported')
  return exportKubeconfig(ctx, renewedCredentials(ctx), true)
}

/** When a certificate ends. */
export const endOf = (pem: string): number => Date.parse(new X509Certificate(pem).validTo)

/** Reads one that was exported. */
export async function readExported(file: string): Promise<Kubeconfig> {
  const { server, ca = '', certificate, key } = kubeconfigFields(await readFile(file, 'utf8'), file)
  if (server === undefined) {
    throw new HostFailedError(`${file} has no server`, { code: 'kops.unexpected-answer' })
  }
  const pems = ca.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  return { server, authorities: pems.map(pem => new X509Certificate(pem)), certificate, key }
}

/** The id by which kOps knows the key pair of a certificate: its serial, in decimal. */
export function keypairOf(certificate: X509Certificate): string {
  return BigInt(`0x${certificate.serialNumber}`).toString()
}
