// Before anything is touched: is the cluster well, is there room, do the clocks agree, which certificates are there, and would
// Vault issue what they need? Reads only.
import { posix } from 'node:path'
import type { z } from 'zod'
import { HostFailedError, type RekeyError } from '../errors.ts'
import { etcdHealthy, etcdMembers, requireEtcdTools } from '../kubernetes/components/etcd.ts'
import { etcdAccess } from '../kubernetes/components/etcd-access.ts'
import { measuredForBackups, stagingFolders } from '../kubernetes/components/kept.ts'
import { type AuthorityFile, authorityFilesOf } from '../kubernetes/layout/authorities.ts'
import { isAnchor } from '../kubernetes/layout/discover.ts'
import type { MachineFacts } from '../kubernetes/layout/layout.ts'
import { planOfCluster, unplannedCertificates } from '../kubernetes/layout/plan.ts'
import { besideThePlan, tellBeside } from '../kubernetes/trust/beside.ts'
import { type MachineReading, machineFacts, readMachine } from '../kubernetes/trust/machine.ts'
import { freeKilobytes } from '../operations/backup.ts'
import { publicKeyOf } from '../pki/certificates/bundle-text.ts'
import { type AuthorityName, authorityNames, issuingPolicy, preparingPolicy } from '../pki/specs.ts'
import { duration } from '../playbook/duration.ts'
import type { Host } from '../playbook/host.ts'
import type { StepDefinition } from '../playbook/model.ts'
import * as extra from './as-found/extra.ts'
import { type Variables as AuthorityVariables, plansOf, policyName, requireRoles, rolesOf } from './authorities.ts'
import type { Variables as BackupVariables } from './backup.ts'
import { type Variables as ConditionVariables, isAccepted } from './conditions.ts'
import { type OnCluster, type OnHost, seconds } from './given/context.ts'
import { filesOf, layoutOf, type Plan, planOf, planStep, readingOf, readingStep, realOf } from './given/found.ts'
import { etcdHosts, everyMachine, isMaster } from './given/hosts.ts'
import type { WithVault } from './given/vault.ts'

export const variables = {
  /** How far clocks may be apart. */
  clock_tolerance: duration.default(seconds(60)),
}

export type Variables = z.output<z.ZodObject<typeof variables>>

/** Registers how far a host's clock is ahead of this machine's, in milliseconds. */
export const readClock: StepDefinition<OnHost> = {
  id: 'read-the-clock',
  readOnly: true,
  run: async ({ $ }) => {
    const before = Date.now()
    const remote = Number((await $`date +%s%N`).stdout.trim().slice(0, -6))
    return remote - (before + Date.now()) / 2
  },
}

/** Fails where the clocks that `readClock` read differ by more than `clock_tolerance`. */
export const compareClocks: StepDefinition<OnHost<Variables>> = {
  readOnly: true,
  runOnce: true,
  run: ctx => {
    const offsets = ctx
      .hosts(everyMachine)
      .map(({ name }) => [name, ctx.registered<number>('read-the-clock', name) ?? 0] as const)
    // Certificates are made by this machine's Vault and read on all of them: whoever is off by too much refuses them.
    const off = offsets.filter(([, offset]) => Math.abs(offset) > ctx.vars.clock_tolerance)
    const spread = Math.max(...offsets.map(([, offset]) => offset)) - Math.min(...offsets.map(([, offset]) => offset))
    if (off.length === 0 && spread <= ctx.vars.clock_tolerance) return
    const told = (off.length > 0 ? off : offsets).map(
      ([name, offset]) => `${name} is ${Math.abs(Math.round(offset / 1_000))} s ${offset > 0 ? 'ahead' : 'behind'}`,
    )
    throw new HostFailedError(
      `the clocks differ by more than ${ctx.vars.clock_tolerance / 1_000} s: ${told.join(', ')}`,
      {
        code: 'preflight.clock',
        hint: 'Set the clocks first (NTP): a certificate of today is not valid yet on a machine that is behind.',
      },
    )
  },
}

/** Fails where the backups, and as much again, would not find room. Goes by what was read. */
export const checkSpace: StepDefinition<OnHost<BackupVariables>> = {
  readOnly: true,
  run: async ctx => {
    const [layout, found] = [layoutOf(ctx), filesOf(ctx)]
    const { stdout } =
      await ctx.$`du -sk ${measuredForBackups(layout, found)} 2>/dev/null | awk '{ n += $1 } END { print n }'`
    // The archive, the snapshot, and as much again to spare.
    const needed = Number(stdout.trim()) * 2 + 20_480
    for (const path of [ctx.vars.backup_directory, ...stagingFolders(layout, found)]) {
      const free = await freeKilobytes(ctx, path)
      if (free >= needed) continue
      throw new HostFailedError(`${ctx.host.name} has ${free} KiB free under ${path}, and the backups need ${needed}`, {
        code: 'preflight.disk',
        host: ctx.host.name,
        hint: 'Make room, or set backup_directory to a folder on another disk.',
      })
    }
  },
}

/** Registers what a machine has: `readingOf`. */
export const readCertificates: StepDefinition<OnHost<Partial<extra.Variables>>> = {
  id: readingStep,
  readOnly: true,
  remember: true,
  run: ctx =>
    readMachine(ctx, isMaster(ctx), [
      ...new Set((ctx.vars.extra_certificates ?? []).map(({ path }) => posix.dirname(path))),
    ]),
}

/** Fails where a member of etcd does not answer what needs a quorum. */
export const checkEtcd: StepDefinition<OnHost> = {
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    for (const host of etcdHosts(ctx)) {
      if (await memberIsHealthy(ctx, host)) continue
      throw new HostFailedError(`etcd on ${host.name} is not healthy, or has lost its quorum`, {
        code: 'preflight.etcd',
        host: host.name,
        hint: `Bring it back first: with a member missing, restarting the others can lose the quorum for good.${layoutOf(ctx, host.name).components.etcd ? '' : ' Neither a process nor what would start one was found there; where there is none on purpose, say who has one: rekey_etcd.'}`,
      })
    }
  },
}

async function memberIsHealthy(ctx: OnHost, host: Host): Promise<boolean> {
  const layout = layoutOf(ctx, host.name)
  if (!layout.components.etcd) return false
  return etcdHealthy(await ctx.on(host), etcdAccess(layout)).catch((error: RekeyError) => {
    // It does not even listen.
    if (error.code === 'connection.forward') return false
    throw error
  })
}

/** Fails where etcd can't be asked or backed up: where the first host with a member lacks its tools. */
export const checkEtcdTools: StepDefinition<OnHost> = {
  readOnly: true,
  runOnce: true,
  run: async ctx => requireEtcdTools(await ctx.on(firstOfEtcd(ctx))),
}

/** Fails where etcd can't be asked or backed up, or has other members than the inventory has hosts for it. */
export const checkEtcdMembers: StepDefinition<OnHost> = {
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    const hosts = etcdHosts(ctx)
    const first = firstOfEtcd(ctx)
    const session = await ctx.on(first)
    await requireEtcdTools(session)
    const members = await etcdMembers(session, etcdAccess(layoutOf(ctx, first.name)))
    if (members.length !== hosts.length || members.some(({ learner }) => learner)) {
      throw new HostFailedError(
        `etcd has the members ${members.map(({ name }) => name).join(', ')}, and the inventory has it on ${hosts.map(({ name }) => name).join(', ')}`,
        {
          code: 'preflight.etcd-members',
          hint: 'A member that is not in the inventory would be left without a certificate that the others accept.',
        },
      )
    }
  },
}

function firstOfEtcd(ctx: OnHost): Host {
  const [first] = etcdHosts(ctx)
  if (first) return first
  throw new HostFailedError('the run has no host with a member of etcd', {
    code: 'preflight.etcd-members',
    hint: 'Where --limit leaves some out, let it have one; docs/from-ansible.md says who they are.',
  })
}

/** What was read of each machine, with its addresses as its node has them. */
export async function machinesFound(ctx: OnCluster): Promise<MachineFacts[]> {
  const nodes = new Map((await ctx.cluster.nodes()).map(node => [node.metadata.name, node]))
  return ctx.hosts(everyMachine).map(({ name }) => {
    const reading = readingOf(ctx, name)
    const addresses = (nodes.get(reading.nodeName ?? '')?.['status']?.addresses ?? []) as {
      type: string
      address: string
    }[]
    return machineFacts(
      reading,
      addresses.filter(({ type }) => type.endsWith('IP')).map(({ address }) => address),
    )
  })
}

/** Registers which certificates are needed anew: `planOf`. Fails where one was found that would be left behind. */
export const planCertificates: StepDefinition<OnCluster<ConditionVariables & extra.Variables>> = {
  id: planStep,
  readOnly: true,
  remember: true,
  runOnce: true,
  run: async (ctx): Promise<Plan> => {
    const found = await machinesFound(ctx)
    const { specs: named, oldAuthorities, sharing } = planOfCluster(found, { componentServing: true })
    const readings = found.map(({ name }) => readingOf(ctx, name))
    const specs = [...named, ...extra.specsOf(ctx, readings, oldAuthorities)]
    for (const line of readings.flatMap(bundles)) ctx.log(line)
    const authorityCopies = await checkBeside(ctx, unplannedCertificates(found, specs), oldAuthorities)
    ctx.log(`${specs.length} certificates for ${found.length} machines`)
    return {
      ...{ specs, oldAuthorities, sharing, authorityCopies },
      addresses: Object.fromEntries(found.map(({ name, addresses }) => [name, addresses[0] ?? ''])),
    }
  },
}

/** Files of CAs that hold more than one: what they are to hold is the new CA alone, so that nobody else's clients are let in by accident. */
function bundles({ host, layout, files = {} }: MachineReading): string[] {
  const real = new Map(Object.values(files).map(facts => [facts.real, facts]))
  return (layout ? authorityFilesOf(layout) : []).flatMap(file => {
    const more = real.get(file.real)?.more ?? []
    return more.length === 0
      ? []
      : [`${host}:${file.real} holds other CAs, which the new one takes the place of, too: ${more.join('; ')}`]
  })
}

/**
 * Tells of certificates that the plan does not know; fails where one of them is in use, and would be left behind, unless it is accepted.
 * @returns copies of the CAs that are in use, or lie beside a certificate that the inventory names, by host
 */
async function checkBeside(
  ctx: OnCluster<ConditionVariables & extra.Variables>,
  unplanned: readonly { host: string; path: string }[],
  old: Readonly<Partial<Record<AuthorityName, string>>>,
): Promise<Record<string, AuthorityFile[]>> {
  const byHost = Map.groupBy(unplanned, ({ host }) => host)
  const folders = new Set(ctx.vars.extra_certificates.map(({ path }) => posix.dirname(path)))
  const beside = await Promise.all(
    [...byHost].map(async ([host, those]) => {
      const { certificates } = readingOf(ctx, host)
      return besideThePlan(
        await ctx.on(host),
        new Map(those.map(({ path }) => [path, certificates[path] ?? ''])),
        Object.values(old).filter(Boolean),
      )
    }),
  )
  const nameOf = ({ host, path }: { host: string; path: string }) => `certificate/${host}:${path}`
  const copies = beside.flat().flatMap(one => {
    const { certificates, files } = readingOf(ctx, one.host)
    const key = publicKeyOf(certificates[one.path] ?? '')
    const authorities = authorityNames.filter(name => old[name] && publicKeyOf(old[name] ?? '') === key)
    const anchor = isAnchor(one.path) && files?.[one.path]?.more === undefined
    if (authorities.length === 0 || !(anchor || one.kind === 'in use' || folders.has(posix.dirname(one.path))))
      return []
    return [{ one, file: { real: realOf(ctx, one.path, one.host), authorities } }]
  })
  // Whom else a machine trusts is nobody's business here.
  const rest = beside.flat().filter(one => !isAnchor(one.path) && !copies.some(copy => copy.one === one))
  const left = rest.filter(one => one.kind === 'in use' && !isAccepted(ctx, nameOf(one)))
  for (const line of tellBeside(rest.filter(one => !left.includes(one)))) ctx.log(line)
  for (const { one } of copies) ctx.log(`${one.host}:${one.path} is a copy of the CA, and gets the new one`)
  if (left.length > 0) {
    throw new HostFailedError(
      `certificates that the plan does not know, and that would be left behind: ${tellBeside(left).join('; ')}`,
      {
        code: 'preflight.unplanned',
        hint: `Name them in extra_certificates (path, key, restart), to have them made anew; or have whoever made them do so afterwards, and accept them by name: accept: [${left.map(nameOf).join(', ')}].`,
      },
    )
  }
  return Object.fromEntries(
    [...Map.groupBy(copies, ({ one }) => one.host)].map(([host, those]) => [host, those.map(({ file }) => file)]),
  )
}

/** Fails where Vault is sealed, its token may not do what the run needs, or a role would refuse what is planned. */
export const askVault: StepDefinition<OnHost<AuthorityVariables> & WithVault> = {
  readOnly: true,
  runOnce: true,
  run: async ctx => {
    const vault = await ctx.vault.operator()
    const { version } = await vault.requireUnsealed()
    await vault.lookupSelf()
    const roles = rolesOf(ctx)
    await vault.requireCapabilities([
      ...preparingPolicy(plansOf(ctx), ctx.vars.vault_manage_roles ? roles : [], policyName(ctx)),
      ...issuingPolicy(roles),
    ])
    if (!ctx.vars.vault_manage_roles)
      await requireRoles(vault, planOf(ctx).specs, plansOf(ctx), ctx.vars.certificate_ttl)
    ctx.log(`Vault ${version} at ${vault.address}`)
  },
}
