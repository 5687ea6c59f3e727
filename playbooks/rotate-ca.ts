#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// Replaces the CAs of a kubeadm cluster and every certificate under them, the hard way: all at once, in the order that keeps
// the API away for the shortest time. Pods keep serving; what asks the API waits for it, and is restarted at the end.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import {
  type AuthorityPlan,
  adminKubeconfig,
  apiServerOf,
  authorityCopies,
  authorityFiles,
  authorityPlans,
  type CanaryCounts,
  type CertificateSpec,
  type ClientAuthorities,
  type Cluster,
  canaryReport,
  changedAfterSwap,
  clientTrustName,
  connectVault,
  createRenderer,
  createRunToken,
  duration,
  etcdHealthy,
  etcdMembers,
  etcdServes,
  fetchFile,
  forgetUdpFlows,
  formatDuration,
  freeKilobytes,
  type GapReport,
  type Host,
  HostFailedError,
  type HostSession,
  isReady,
  issuingPolicy,
  killStaticPod,
  kubeadmAuthorities,
  kubeadmCertificates,
  kubeletEndpoint,
  kubeletHealthy,
  kubeletWentRound,
  kubeProxySynced,
  kubernetesApi,
  type MachineReading,
  type ManifestEditor,
  machineFacts,
  manifestDirectory,
  masterEndpoints,
  mountOf,
  type NewAuthority,
  namespacesWithOtherCa,
  openCluster,
  type Play,
  type Probes,
  parseCertificate,
  plannedManifest,
  play,
  playbook,
  preparingPolicy,
  presentedCertificates,
  probeApis,
  RekeyError,
  type ReportSection,
  type RunContext,
  type RunToken,
  type RunTokenRecord,
  readCanaries,
  readKubeconfig,
  readMachine,
  readyAddresses,
  refusedByRole,
  regenerateToken,
  renderHostFiles,
  replaceDaemonPods,
  restartKubelet,
  restartWorkload,
  restoreFiles,
  revokeRunToken,
  roleName,
  type Secret,
  type StagedFile,
  type Step,
  type StepContext,
  type Swap,
  secret,
  serviceAccountKeyPair,
  stagedPath,
  stageFiles,
  startedAnew,
  step,
  swapFiles,
  type TokenSecret,
  tightenClientTrust,
  tokenSecrets,
  unplannedCertificates,
  updateManifest,
  type Vault,
  vaultRoles,
  vaultSecrets,
  verifyChain,
  verifyStaged,
  waitFor,
  workload,
  workloadName,
} from '../lib/index.ts'
import { backupFolder, backupPlays, backupVariables } from './backup.ts'

const seconds = (count: number) => count * 1_000

const variables = z.object({
  ...backupVariables,
  cluster_name: z.string(),
  /** Where users reach the API: the load balancer in front of the masters. */
  api_server: z.url(),
  vault_addr: z.url(),
  vault_cacert: z.string().optional(),
  vault_token_file: z.string(),
  /** One CA for everything, or kubeadm's three: kubernetes, etcd, front-proxy. */
  pki_authorities: z.enum(['one', 'three']).default('three'),
  /** The mount of the cluster's CA in Vault; those of etcd and front-proxy are named after it. */
  pki_mount: z
    .string()
    .regex(/^[\w-]+$/)
    .default('pki_k8s'),
  /** Whether rekey writes the roles; where it does not, they must be there already, under the same names. */
  vault_manage_roles: z.boolean().default(true),
  /** How long the new CAs hold, and at most what they sign. */
  ca_ttl: z.string().default('43800h'),
  certificate_ttl: z.string().default('17520h'),
  /** Whether the controller-manager signs with the cluster's CA: then its key goes to the masters. */
  controller_manager_signs: z.boolean().default(true),
  rotate_service_account_keys: z.boolean().default(false),
  /** Restarted before everything else that runs in pods. */
  cni_workloads: z.array(workload).default([]),
  /** Restarted after CoreDNS and kube-proxy: what holds tokens, or the old CA. */
  restart_workloads: z.array(workload).default([]),
  /** A folder on the hosts in which canaries write what they counted. */
  canary_results: z.string().optional(),
  /** What to tell at the end: commands to look around with. */
  look_around: z.array(z.string()).default([]),
  clock_tolerance: duration.default(seconds(60)),
})

type Variables = z.output<typeof variables>

/** What a run holds in memory only: keys, tokens, and what is measured. */
interface Rotation {
  readonly cluster: Cluster
  /** Vault, with the operator's token. */
  vault(): Promise<Vault>
  /** The short-lived token of this run, made once: in a resumed run all hosts may ask for it first. */
  issuing?: Promise<RunToken>
  /** What was written to each host; a resumed run reads it back. */
  readonly staged: Map<string, StagedFile[]>
  readonly renderers: Map<string, ReturnType<typeof createRenderer>>
  probes?: Probes
  /** Reads the administrator's kubeconfig anew, the first time that it is called. */
  forgetOldCredentials(): void
  close(): Promise<void>
}

type Context = StepContext<Variables> & { readonly rotation: Rotation; readonly cluster: Cluster }

/** What is planned from what was found. Plain data: it is registered. */
interface Plan {
  readonly specs: CertificateSpec[]
  readonly oldAuthorities: Readonly<Record<string, string>>
  /** The address of each host as a node. */
  readonly addresses: Readonly<Record<string, string>>
}

const isMaster = ({ host }: Context) => host.groups.includes('masters')
const plans = ({ vars }: Pick<Context, 'vars'>): AuthorityPlan[] =>
  authorityPlans(vars.pki_authorities, { mount: vars.pki_mount, controllerManagerSigns: vars.controller_manager_signs })
const readingOf = (ctx: Context, host = ctx.host.name) =>
  must(ctx.registered<MachineReading>('read-the-certificates', host), 'the certificates were not read')
const planOf = (ctx: Pick<Context, 'registered'>) =>
  must(ctx.registered<Plan>('plan-the-certificates'), 'the certificates were not planned')
const newAuthority = (ctx: Context, authority: CertificateSpec['authority']) =>
  must(madeOf(ctx)[mountOf({ authority }, plans(ctx))], `the new CA for ${authority} is not known`).certificate

/** Whom clients came from before; and whom they come from now. */
const oldClientAuthorities = (ctx: Context): ClientAuthorities => {
  const { 'front-proxy': frontProxy } = planOf(ctx).oldAuthorities
  return { kubernetes: readingOf(ctx).authority, frontProxy: frontProxy || readingOf(ctx).authority }
}
const newClientAuthorities = (ctx: Context): ClientAuthorities => ({
  kubernetes: newAuthority(ctx, 'kubernetes'),
  frontProxy: newAuthority(ctx, 'front-proxy'),
})

/** A CA that this run made in a mount of Vault. */
interface MadeAuthority {
  readonly issuer: string
  readonly keyId: string
  readonly certificate: string
  readonly key?: Secret
  readonly fingerprint: string
  readonly notAfter: string
}

const madeOf = (ctx: Pick<Context, 'registered'>) =>
  must(ctx.registered<Record<string, MadeAuthority>>('generate-the-new-root-cas'), 'the new CAs were not made')

/** The credentials that worked before, and a digest of what must not change. */
interface Before {
  readonly admin?: { readonly certificate: string; readonly key: Secret }
  readonly tokens: readonly TokenSecret[]
  readonly secrets: string
}

const beforeOf = (ctx: Pick<Context, 'registered'>) =>
  must(ctx.registered<Before>('note-credentials'), 'the old credentials were not noted')

function must<T>(value: T | undefined, what: string): T {
  if (value === undefined)
    throw new HostFailedError(what, { code: 'rotate-ca.missing', hint: 'Run the playbook from its beginning.' })
  return value
}

// ---------------------------------------------------------------------------------------------------------------- 1 Preflight

const preflight: Play<Context>[] = [
  play('Preflight: every host', { hosts: 'masters:nodes', tags: ['preflight'] }, [
    step('Read the clock', {
      readOnly: true,
      run: async ({ $ }) => {
        const before = Date.now()
        const remote = Number((await $`date +%s%N`).stdout.trim().slice(0, -6))
        return remote - (before + Date.now()) / 2
      },
    }),
    step('Compare the clocks', {
      readOnly: true,
      runOnce: true,
      run: ctx => {
        const offsets = ctx
          .hosts('masters:nodes')
          .map(({ name }) => [name, ctx.registered<number>('read-the-clock', name) ?? 0] as const)
        // Certificates are made by this machine's Vault and read on all of them: whoever is off by too much refuses them.
        const off = offsets.filter(([, offset]) => Math.abs(offset) > ctx.vars.clock_tolerance)
        const spread =
          Math.max(...offsets.map(([, offset]) => offset)) - Math.min(...offsets.map(([, offset]) => offset))
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
    }),
    step('Check the space for backups', {
      readOnly: true,
      run: async ctx => {
        const { stdout } =
          await ctx.$`du -sk /etc/kubernetes /var/lib/kubelet/pki /var/lib/etcd/member/snap/db 2>/dev/null | awk '{ n += $1 } END { print n }'`
        // The archive, the snapshot, and as much again to spare.
        const needed = Number(stdout.trim()) * 2 + 20_480
        for (const path of [ctx.vars.backup_directory, '/etc/kubernetes', '/var/lib/kubelet']) {
          const free = await freeKilobytes(ctx, path)
          if (free >= needed) continue
          throw new HostFailedError(
            `${ctx.host.name} has ${free} KiB free under ${path}, and the backups need ${needed}`,
            {
              code: 'preflight.disk',
              host: ctx.host.name,
              hint: 'Make room, or set backup_directory to a folder on another disk.',
            },
          )
        }
      },
    }),
    step('Read the certificates', { readOnly: true, remember: true, run: ctx => readMachine(ctx, isMaster(ctx)) }),
  ]),

  play('Preflight: etcd, nodes, Vault, the plan', { hosts: 'masters', tags: ['preflight'] }, [
    step('Check etcd', {
      readOnly: true,
      run: async ctx => {
        const healthy = await etcdHealthy(ctx).catch((error: RekeyError) => {
          // It does not even listen.
          if (error.code === 'connection.forward') return false
          throw error
        })
        if (!healthy) {
          throw new HostFailedError(`etcd on ${ctx.host.name} is not healthy, or has lost its quorum`, {
            code: 'preflight.etcd',
            host: ctx.host.name,
            hint: 'Bring it back first: with a member missing, restarting the others can lose the quorum for good.',
          })
        }
      },
    }),
    step('Check the members of etcd', {
      readOnly: true,
      runOnce: true,
      run: async ctx => {
        const members = await etcdMembers(ctx)
        const masters = ctx.hosts('masters')
        if (members.length !== masters.length || members.some(({ learner }) => learner)) {
          throw new HostFailedError(
            `etcd has the members ${members.map(({ name }) => name).join(', ')}, and the inventory the masters ${masters.map(({ name }) => name).join(', ')}`,
            {
              code: 'preflight.etcd-members',
              hint: 'A member that is not in the inventory would be left without a certificate that the others accept.',
            },
          )
        }
      },
    }),
    step('Check the nodes', {
      readOnly: true,
      runOnce: true,
      run: async ctx => {
        const nodes = await ctx.cluster.nodes()
        const known = new Set(ctx.hosts('masters:nodes').map(({ name }) => readingOf(ctx, name).nodeName))
        const notReady = nodes.filter(node => !isReady(node)).map(({ metadata }) => metadata.name)
        const strangers = nodes.filter(({ metadata }) => !known.has(metadata.name)).map(({ metadata }) => metadata.name)
        if (notReady.length > 0)
          throw new HostFailedError(`not Ready: ${notReady.join(', ')}`, {
            code: 'preflight.not-ready',
            hint: 'Begin with a cluster that is well.',
          })
        if (strangers.length > 0) {
          throw new HostFailedError(`nodes that are not in the inventory: ${strangers.join(', ')}`, {
            code: 'preflight.unknown-nodes',
            hint: 'They would be locked out. Add them to the inventory, or remove them from the cluster.',
          })
        }
      },
    }),
    step('Plan the certificates', {
      readOnly: true,
      remember: true,
      runOnce: true,
      run: async (ctx): Promise<Plan> => {
        const nodes = new Map((await ctx.cluster.nodes()).map(node => [node.metadata.name, node]))
        const machines = ctx.hosts('masters:nodes').map(({ name }) => {
          const reading = readingOf(ctx, name)
          const addresses = (nodes.get(reading.nodeName)?.['status']?.addresses ?? []) as {
            type: string
            address: string
          }[]
          return machineFacts(
            reading,
            addresses.filter(({ type }) => type.endsWith('IP')).map(({ address }) => address),
          )
        })
        const specs = kubeadmCertificates(machines, { componentServing: true })
        const left = unplannedCertificates(machines, specs)
        if (left.length > 0) {
          throw new HostFailedError(
            `certificates that the plan does not know, and that would be left behind: ${left.map(({ host, path }) => `${host}:${path}`).join(', ')}`,
            {
              code: 'preflight.unplanned',
              hint: 'Move them elsewhere if they have nothing to do with the cluster.',
            },
          )
        }
        const [first] = ctx.hosts('masters')
        const certificates = first ? readingOf(ctx, first.name).certificates : {}
        const oldAuthorities = Object.fromEntries(
          Object.entries(kubeadmAuthorities).map(([name, { certificate }]) => [name, certificates[certificate] ?? '']),
        )
        ctx.log(`${specs.length} certificates for ${machines.length} machines`)
        return {
          specs,
          oldAuthorities,
          addresses: Object.fromEntries(machines.map(({ name, addresses }) => [name, addresses[0] ?? ''])),
        }
      },
    }),
    step('Ask Vault', {
      readOnly: true,
      runOnce: true,
      run: async ctx => {
        const vault = await ctx.rotation.vault()
        const { version } = await vault.requireUnsealed()
        await vault.lookupSelf()
        const roles = rolesOf(ctx)
        await vault.requireCapabilities([
          ...preparingPolicy(plans(ctx), ctx.vars.vault_manage_roles ? roles : [], policyName(ctx)),
          ...issuingPolicy(roles),
        ])
        if (!ctx.vars.vault_manage_roles) await requireRoles(ctx, vault)
        ctx.log(`Vault ${version} at ${vault.address}`)
      },
    }),
  ]),
]

/** Asks the roles that somebody else wrote whether they would issue what is planned. */
async function requireRoles(ctx: Context, vault: Vault): Promise<void> {
  for (const spec of planOf(ctx).specs) {
    const [mount, name] = [mountOf(spec, plans(ctx)), roleName(spec)]
    const role = await vault.readRole(mount, name)
    const refused = role ? refusedByRole(spec, role, ctx.vars.certificate_ttl) : []
    if (role && refused.length === 0) continue
    throw new HostFailedError(
      role
        ? `the role ${mount}/roles/${name} refuses ${refused.join(', ')} for ${spec.id}`
        : `there is no role ${mount}/roles/${name} for ${spec.id}`,
      {
        code: 'preflight.role',
        hint: 'Have the owners of the Vault change it, or let rekey write the roles: vault_manage_roles: true.',
      },
    )
  }
}

const rolesOf = (ctx: Pick<Context, 'vars' | 'registered'>) =>
  vaultRoles(planOf(ctx).specs, plans(ctx), { ttl: ctx.vars.certificate_ttl })
const policyName = ({ vars }: Pick<Context, 'vars'>) => `rekey-${vars.cluster_name}`

// ------------------------------------------------------------------------------------------------------------- 2 Before the change

/** What the canaries had counted before the first change. */
interface Counted {
  readonly canaries: CanaryCounts[]
}

const observe: Play<Context>[] = [
  play('Start the probes', { hosts: 'masters', tags: ['probes'] }, [
    step('Ask the API ten times a second, and note what the canaries have counted', {
      id: 'start-the-probes',
      when: ctx => !ctx.check,
      runOnce: true,
      readOnly: true,
      run: async ctx => {
        ctx.rotation.probes = probeApis([
          ctx.vars.api_server,
          ...ctx.hosts('masters').map(master => apiServerOf(master)),
        ])
        // A resumed run counts from where the first part of it began.
        return { canaries: ctx.registered<Counted>('start-the-probes')?.canaries ?? (await canaries(ctx)) }
      },
    }),
    step('Note what must be refused, and what must still be readable afterwards', {
      id: 'note-credentials',
      runOnce: true,
      readOnly: true,
      remember: true,
      run: async (ctx): Promise<Before> => {
        const { certificate, key } = readKubeconfig(await ctx.files.readText(adminKubeconfig), adminKubeconfig)
        const api = await ctx.cluster.api()
        const tokens = await tokenSecrets(api)
        for (const { token } of tokens) ctx.redact(token.reveal())
        const admin = certificate && key ? { certificate, key: secret(key) } : undefined
        return { admin, tokens, secrets: await secretsDigest(api) }
      },
    }),
  ]),
]

async function canaries(ctx: Pick<RunContext<Variables>, 'vars' | 'hosts' | 'on'>): Promise<CanaryCounts[]> {
  const folder = ctx.vars.canary_results
  if (folder === undefined) return []
  return (
    await Promise.all(ctx.hosts('masters:nodes').map(async host => readCanaries(await ctx.on(host), folder)))
  ).flat()
}

/** What all Secrets hold, but for the tokens, which change. One text to compare; nothing can be read out of it. */
async function secretsDigest(api: Awaited<ReturnType<Cluster['api']>>): Promise<string> {
  const secrets = await api.list('/api/v1/secrets?fieldSelector=type%21%3Dkubernetes.io%2Fservice-account-token')
  const bootstrap = (type: unknown) => type === 'bootstrap.kubernetes.io/token'
  const entries = secrets
    .filter(one => !bootstrap(one['type']))
    .map(({ metadata, data }) => `${metadata.namespace}/${metadata.name} ${JSON.stringify(data ?? {})}`)
  return createHash('sha256').update(entries.sort().join('\n')).digest('hex')
}

// ------------------------------------------------------------------------------------------------------------------ 3 Vault PKI

const vaultPki: Play<Context>[] = [
  play('Vault PKI', { hosts: 'masters', tags: ['vault'] }, [
    step('Mount and tune the PKI engines', {
      irreversible: 'engines stay mounted: what they issued before could not be revoked any more',
      runOnce: true,
      plan: ctx =>
        plans(ctx).map(
          ({ mount }) =>
            `vault secrets enable -path=${mount} pki; vault secrets tune -max-lease-ttl=${ctx.vars.ca_ttl} ${mount}`,
        ),
      run: async ctx => {
        const vault = await ctx.rotation.vault()
        for (const { mount } of plans(ctx)) {
          await vault.ensureMount(mount, {
            maxLeaseTtl: ctx.vars.ca_ttl,
            description: `CA of the Kubernetes cluster ${ctx.vars.cluster_name}`,
          })
        }
      },
    }),
    step('Note the CAs that Vault issues from', {
      id: 'note-issuers',
      runOnce: true,
      readOnly: true,
      remember: true,
      run: async (ctx): Promise<Record<string, string>> => {
        const vault = await ctx.rotation.vault()
        const found: Record<string, string> = {}
        for (const { mount } of plans(ctx)) {
          const issuer = await defaultIssuer(vault, mount)
          if (issuer !== undefined) found[mount] = issuer
        }
        return found
      },
    }),
    step('Generate the new root CAs', {
      runOnce: true,
      plan: ctx =>
        plans(ctx).map(
          ({ mount, commonName, keyOnMasters }) =>
            `vault write ${mount}/root/generate/${keyOnMasters ? 'exported' : 'internal'} common_name=${commonName} ttl=${ctx.vars.ca_ttl}, and make it the default issuer`,
        ),
      run: async ctx => {
        const vault = await ctx.rotation.vault()
        const made: Record<string, MadeAuthority> = {}
        for (const { mount, commonName, keyOnMasters } of plans(ctx)) {
          // One that a killed run made and did not get to keep: its key can't be had any more.
          await removeIssuer(vault, mount, issuerName(ctx))
          const type = keyOnMasters ? 'exported' : 'internal'
          const root = await vault.generateRoot(mount, {
            commonName,
            type,
            ttl: ctx.vars.ca_ttl,
            keyType: 'rsa',
            keyBits: 2048,
            issuerName: issuerName(ctx),
          })
          await vault.setDefaultIssuer(mount, root.issuerId)
          if (root.privateKey) ctx.redact(root.privateKey)
          const { issuerId: issuer, keyId, certificate, privateKey } = root
          const { fingerprint, notAfter } = parseCertificate(certificate)
          const key = privateKey === undefined ? undefined : secret(privateKey)
          made[mount] = { issuer, keyId, certificate, key, fingerprint, notAfter: notAfter.toISOString() }
          ctx.log(`${mount}: ${fingerprint}`)
        }
        return made
      },
      rollback: async ctx => {
        const vault = await ctx.rotation.vault()
        const previous = ctx.registered<Record<string, string>>('note-issuers') ?? {}
        for (const { mount } of plans(ctx)) {
          const issuer = previous[mount]
          if (issuer !== undefined) await vault.setDefaultIssuer(mount, issuer)
          await removeIssuer(vault, mount, issuerName(ctx))
          const now = await defaultIssuer(vault, mount)
          if (now === issuer) continue
          throw new HostFailedError(
            `${mount} in Vault issues from ${now ?? 'no CA'}, and not from ${issuer ?? 'none'}`,
            {
              code: 'rollback.issuer',
            },
          )
        }
      },
    }),
    step('Write the roles', {
      irreversible: 'roles stay, and issue from the CA that is the default: the next rotation writes the same',
      runOnce: true,
      when: ctx => ctx.vars.vault_manage_roles,
      plan: ctx => rolesOf(ctx).map(({ mount, name }) => `vault write ${mount}/roles/${name}`),
      run: async ctx => {
        const vault = await ctx.rotation.vault()
        for (const { mount, name, settings } of rolesOf(ctx)) await vault.ensureRole(mount, name, settings)
      },
    }),
    step('Make a policy and a short-lived token for this run', {
      runOnce: true,
      plan: ctx => [`vault policy write ${policyName(ctx)}`, `vault token create -policy=${policyName(ctx)} -ttl=30m`],
      run: async ctx => {
        await issuingVault(ctx)
      },
      rollback: ctx => revokeRecorded(ctx, ctx.rotation),
    }),
  ]),
]

const issuerName = ({ run }: Pick<Context, 'run'>) => `rekey-${run}`

async function defaultIssuer(vault: Vault, mount: string): Promise<string | undefined> {
  try {
    return (await vault.readIssuer(mount, 'default'))?.id
  } catch (error) {
    // Before the first rotation there is no engine either.
    if (error instanceof RekeyError && error.code === 'issuer.no-such-mount') return undefined
    throw error
  }
}

async function removeIssuer(vault: Vault, mount: string, name: string): Promise<void> {
  const issuer = await vault.readIssuer(mount, name)
  if (!issuer) return
  await vault.deleteIssuer(mount, issuer.id)
  await vault.deleteKey(mount, issuer.keyId)
}

/** Vault with the short-lived token of this run. It is revoked when the run ends: one that is gone on with makes another. */
async function issuingVault(ctx: Context): Promise<Vault> {
  ctx.rotation.issuing ??= makeRunToken(ctx)
  return (await ctx.rotation.issuing).vault
}

async function makeRunToken(ctx: Context): Promise<RunToken> {
  await revokeRecorded(ctx, ctx.rotation)
  const made = await createRunToken(await ctx.rotation.vault(), {
    policy: policyName(ctx),
    lines: issuingPolicy(rolesOf(ctx)),
    ttl: '30m',
    displayName: ctx.run,
    keep: record => writeFile(tokenRecord(ctx), JSON.stringify(record), { mode: 0o600 }),
    onRenewalFailed: ({ message }) => ctx.log(`the run's Vault token could not be renewed: ${message}`),
  })
  ctx.redact(made.token)
  return made
}

/** Says which token the run made, for whoever ends it: also where the process that made it was killed. */
const tokenRecord = ({ folder }: Pick<Context, 'folder'>) => join(folder, 'vault-token.json')

async function revokeRecorded(run: Pick<Context, 'folder'>, rotation: Rotation): Promise<void> {
  if (!existsSync(tokenRecord(run))) return
  const record = JSON.parse(await readFile(tokenRecord(run), 'utf8')) as RunTokenRecord
  await revokeRunToken(await rotation.vault(), record)
  await rm(tokenRecord(run))
}

// --------------------------------------------------------------------------------------------------------------- 4 Certificates

/** The way back of a step that leaves nothing behind. */
const nothing = () => {}

const isShared = ({ hosts }: CertificateSpec) => hosts.length > 1

const certificates: Play<Context>[] = [
  play('Certificates', { hosts: 'masters:nodes', tags: ['certificates'] }, [
    step('Make a new service-account key pair', {
      runOnce: true,
      when: ctx => ctx.vars.rotate_service_account_keys,
      plan: () => 'make an RSA key pair in memory, for sa.key and sa.pub of all masters',
      run: async ctx => {
        const keys = await serviceAccountKeyPair()
        ctx.redact(keys.privateKey.reveal())
        return keys
      },
      // It is nowhere but in the run's folder, and goes to the hosts with the next step.
      rollback: nothing,
    }),
    step(
      'Issue the certificates of this host, the shared ones once for all masters, and stage them beside the live files',
      {
        id: 'issue-certificates',
        together: true,
        plan: ctx =>
          planOf(ctx)
            .specs.filter(({ hosts }) => hosts.includes(ctx.host.name))
            .map(describeSpec),
        run: async ctx => {
          const { specs } = planOf(ctx)
          const asked = vaultSecrets(await issuingVault(ctx))
          const secrets: typeof asked = async (path, data) => {
            const answer = await asked(path, data)
            const key = answer?.data['private_key']
            if (typeof key === 'string') ctx.redact(key)
            return answer
          }
          // A renderer asks once: one for each certificate, and for a shared one the same on all hosts.
          const rendererOf = (spec: CertificateSpec) => {
            const id = `${spec.id} ${isShared(spec) ? '' : ctx.host.name}`
            const renderer = ctx.rotation.renderers.get(id) ?? createRenderer({ secrets })
            ctx.rotation.renderers.set(id, renderer)
            return renderer
          }
          const reading = readingOf(ctx)
          const rendered = await renderHostFiles({
            reading,
            specs,
            plans: plans(ctx),
            ttl: ctx.vars.certificate_ttl,
            rendererOf,
            now: new Date(),
          })
          const authority = authorityFiles(isMaster(ctx), plans(ctx), newAuthorities(ctx))
          const keys = isMaster(ctx) ? serviceAccountFiles(ctx) : []
          const files = [...authority.files, ...rendered.files, ...keys]
          const swap: Swap = {
            rename: files.map(({ path }) => path),
            link: rendered.swap.link,
            remove: [...authority.swap.remove, ...rendered.swap.remove],
            hashes: Object.fromEntries(files.map(({ path, content }) => [path, sha256(content)])),
          }
          await unstageAll(ctx)
          await stageFiles(ctx, ctx.run, files)
          ctx.rotation.staged.set(ctx.host.name, files)
          ctx.log(`${files.length} files`)
          return swap
        },
        rollback: unstageAll,
      },
    ),
    step('Verify what is staged: chain, key, names', {
      id: 'verify-what-is-staged',
      // It changes nothing, but there is nothing to look at in a check.
      rollback: nothing,
      plan: () =>
        'compare hashes, verify the chains, match the keys, compare CN, O and SANs with the certificates in use',
      run: async ctx => {
        const { checked, until } = await verifyStaged(
          ctx,
          ctx.run,
          await stagedOf(ctx),
          planOf(ctx).specs,
          readingOf(ctx),
          ({ authority }) => newAuthority(ctx, authority),
        )
        ctx.log(`${checked} certificates verified`)
        return { until }
      },
    }),
  ]),
]

/** What is staged on a host: as it was sent, or read back where the process that sent it is gone. */
async function stagedOf(ctx: Context): Promise<StagedFile[]> {
  const sent = ctx.rotation.staged.get(ctx.host.name)
  if (sent) return sent
  return Promise.all(
    swapOf(ctx).rename.map(async path => {
      const text = await ctx.files.readText(stagedPath(path, ctx.run))
      if (text.includes('PRIVATE KEY')) ctx.redact(text)
      return { path, content: secret(text) }
    }),
  )
}

/** Removes all that this run has staged on a host, whatever it is. */
async function unstageAll(ctx: Context): Promise<void> {
  await ctx.$`find /etc/kubernetes /var/lib/kubelet -xdev -name ${`.rekey-${ctx.run}-*`} -delete`
}

const sha256 = (content: string | Secret) =>
  createHash('sha256')
    .update(typeof content === 'string' ? content : content.reveal())
    .digest('hex')

const newAuthorities = (ctx: Context): Record<string, NewAuthority> =>
  Object.fromEntries(
    Object.entries(madeOf(ctx)).map(([mount, { certificate, key }]) => [mount, { certificate, key: key?.reveal() }]),
  )

const swapOf = (ctx: Context) =>
  must(ctx.registered<Swap>('issue-certificates', ctx.host.name), 'nothing was issued for this host')

function describeSpec({ place, commonName, dnsNames, ipAddresses, hosts }: CertificateSpec): string {
  const path = place.kind === 'pair' ? place.certificate : place.path
  const sans = [...dnsNames, ...ipAddresses].join(', ')
  return `issue ${path}: CN ${commonName}${sans ? `, SANs ${sans}` : ''}${hosts.length > 1 ? ` (one for ${hosts.join(', ')})` : ''}`
}

function serviceAccountFiles(ctx: Context): StagedFile[] {
  const keys = ctx.registered<Awaited<ReturnType<typeof serviceAccountKeyPair>>>('make-a-new-service-account-key-pair')
  if (!keys) return []
  return [
    { path: '/etc/kubernetes/pki/sa.pub', content: keys.publicKey, mode: 0o600 },
    { path: '/etc/kubernetes/pki/sa.key', content: keys.privateKey, mode: 0o600 },
  ]
}

// --------------------------------------------------------------------------------------------------------- 5 Swap, and restarts

const servingFlags = (component: string) => ({
  certificate: `/etc/kubernetes/pki/${component}.crt`,
  key: `/etc/kubernetes/pki/${component}.key`,
})

/** The step from which on the cluster has other CAs than before: all that comes after it is undone together with it. */
const swapStep = 'swap-certificates'

const restarts: Play<Context>[] = [
  play('Prepare the kubelets of the masters', { hosts: 'masters', tags: ['restart'] }, [
    step('Restart the kubelet, so that it knows of no earlier crash and starts what is killed at once', {
      id: 'prepare-kubelets',
      plan: () => 'systemctl restart kubelet',
      run: restartThisKubelet,
      rollback: nothing,
    }),
    step('Wait until the nodes are Ready again, and their kubelets went round their pods', {
      id: 'wait-for-prepared-kubelets',
      when: ctx => !ctx.check,
      runOnce: true,
      readOnly: true,
      run: async ctx => {
        await restartedNodesReady(ctx, 'masters', 'prepare-kubelets')
        await Promise.all(ctx.hosts('masters').map(host => wentRound(ctx, host)))
      },
    }),
  ]),

  play('Swap the certificates', { hosts: 'masters:nodes', tags: ['swap'], rollback: wayBack() }, [
    step('Put the new certificates in place, all hosts at once', {
      id: swapStep,
      plan: ctx => `rename the staged files into place, and keep the old ones in ${backupFolder(ctx)}/host.tgz`,
      run: async ctx => {
        ctx.milestone('first change')
        await swapFiles(ctx, ctx.run, swapOf(ctx))
      },
    }),
  ]),

  play('Restart etcd and the API servers', { hosts: 'masters', tags: ['restart'] }, [
    step('Restart etcd, each member as soon as the one before it serves', {
      id: 'restart-etcd',
      runOnce: true,
      undoneWith: swapStep,
      plan: ctx => ctx.hosts('masters').map(({ name }) => `kill etcd on ${name}; its kubelet starts it again`),
      run: restartEtcd,
    }),
    step('Wait for the quorum of etcd', {
      when: ctx => !ctx.check,
      readOnly: true,
      run: quorumOfEtcd,
    }),
    step('Restart the API server', {
      undoneWith: swapStep,
      plan: () => 'kill kube-apiserver; its kubelet starts it again',
      run: ctx => restartInPlace(ctx, ctx, 'kube-apiserver'),
    }),
    step('Wait until the API server answers', {
      when: ctx => !ctx.check,
      readOnly: true,
      run: apiServerAnswers,
    }),
  ]),

  play('Restart controller-managers, schedulers and kubelets', { hosts: 'masters:nodes', tags: ['restart'] }, [
    step('Restart the controller-manager and the scheduler', {
      when: isMaster,
      undoneWith: swapStep,
      plan: async ctx => [
        ...(await Promise.all(controllers.map(one => plannedManifest(ctx, one, servedByTheCa(ctx, one))))),
        'kill them; their kubelet starts them again',
      ],
      run: async ctx => {
        for (const component of controllers) await updateManifest(ctx, component, servedByTheCa(ctx, component))
        return killControllers(ctx)
      },
    }),
    step('Restart the kubelet', {
      undoneWith: swapStep,
      plan: () => 'systemctl restart kubelet',
      run: restartThisKubelet,
    }),
    step('Wait until every node is Ready', {
      when: ctx => !ctx.check,
      runOnce: true,
      readOnly: true,
      run: async ctx => {
        await restartedNodesReady(ctx, 'masters:nodes', 'restart-the-kubelet')
        ctx.milestone('nodes ready')
      },
    }),
    step('Wait until the controller-manager and the scheduler run', {
      when: ctx => !ctx.check && isMaster(ctx),
      readOnly: true,
      run: ctx => controllersStartedAnew(ctx, 'restart-the-controller-manager-and-the-scheduler'),
    }),
  ]),
]

async function restartInPlace(ctx: Context, session: HostSession, pod: 'etcd' | 'kube-apiserver'): Promise<void> {
  const before = await killStaticPod(session, pod)
  await startedAnew(session, pod, before, { within: seconds(90), signal: ctx.signal })
}

/**
 * A member that starts asks the others for a hash of their data before it serves anybody. One that listens and does not serve yet, since
 * it asks in turn, keeps it waiting for 7 s; those that are gone, serve, or have another CA do not.
 */
async function restartEtcd(ctx: Context): Promise<void> {
  for (const host of ctx.hosts('masters')) {
    const session = await ctx.on(host)
    await restartInPlace(ctx, session, 'etcd')
    await waitFor(
      `etcd of ${host.name} to serve its peers`,
      { within: seconds(90), every: 100, signal: ctx.signal, host: host.name },
      () => etcdServes(session),
    )
  }
}

async function quorumOfEtcd(ctx: Context): Promise<void> {
  await waitFor(
    `etcd of ${ctx.host.name} to have a quorum`,
    { within: seconds(90), every: 250, signal: ctx.signal, host: ctx.host.name },
    () => etcdHealthy(ctx),
  )
}

async function apiServerAnswers(ctx: Context): Promise<void> {
  ctx.rotation.forgetOldCredentials()
  await ctx.cluster.apiServerReady(ctx.host, { within: seconds(180) })
}

/** Registers the last heartbeat of the kubelet before: `restartedNodesReady` waits for the next. */
function restartThisKubelet(ctx: Context): Promise<string> {
  return restartKubelet(ctx.cluster, ctx, readingOf(ctx).nodeName)
}

/** Waits until a kubelet went round its pods: what is killed before that may be started half a minute later. */
async function wentRound(ctx: Context, { name }: Host, within = seconds(60)): Promise<void> {
  const { nodeName } = readingOf(ctx, name)
  await waitFor(
    `the kubelet of ${name} to go round its pods`,
    { within, every: 250, signal: ctx.signal, host: name },
    async () => kubeletWentRound(await ctx.cluster.api(), nodeName),
  )
}

/**
 * The same where nobody knows how far the rotation came. Where no API server answers, no kubelet waits for one either; where one does, and
 * can't ask the kubelet in turn, the kubelet has gone round by then all the same.
 */
async function wentRoundIfTheyCan(ctx: Context): Promise<void> {
  const answers = await ctx.cluster.api().catch((error: Error) => {
    ctx.log(error.message)
  })
  ctx.signal.throwIfAborted()
  if (!answers) return
  await Promise.all(
    ctx.hosts('masters').map(host => wentRound(ctx, host, seconds(15)).catch((error: Error) => ctx.log(error.message))),
  )
  ctx.signal.throwIfAborted()
}

/** Whether the API server of a master is ready, or gets there by itself: one that was just started takes a few seconds. */
async function apiServerIsReady(ctx: Context): Promise<boolean> {
  const ready = await ctx.cluster.apiServerReady(ctx.host, { within: seconds(10) }).then(
    () => true,
    () => false,
  )
  ctx.signal.throwIfAborted()
  return ready
}

/** Waits for the nodes whose kubelets a step restarted. */
async function restartedNodesReady(ctx: Context, pattern: string, restart: string): Promise<void> {
  const heartbeats = ctx
    .hosts(pattern)
    .map(({ name }) => [readingOf(ctx, name).nodeName, ctx.registered<string>(restart, name) ?? ''])
  const notBy = Object.fromEntries(heartbeats) as Record<string, string>
  await ctx.cluster.nodesReady(Object.keys(notBy), { within: seconds(180), notBy })
}

const controllers = ['kube-controller-manager', 'kube-scheduler'] as const
type Controller = (typeof controllers)[number]

/** What makes it present a certificate of the CA, from its next start on, instead of one that it signs itself. */
function servedByTheCa(ctx: Context, component: Controller): (manifest: ManifestEditor) => void {
  const { certificate, key } = servingFlags(component)
  return manifest => {
    if (component === 'kube-controller-manager' && !ctx.vars.controller_manager_signs) {
      // The key stays in Vault: without these flags it signs nothing, with them it would not start.
      manifest.flag('cluster-signing-cert-file', undefined)
      manifest.flag('cluster-signing-key-file', undefined)
    }
    manifest.flag('tls-cert-file', certificate)
    manifest.flag('tls-private-key-file', key)
    manifest.mountReadOnly('k8s-certs', '/etc/kubernetes/pki')
  }
}

/** Kills a master's controller-manager and scheduler, and registers which processes they were. */
async function killControllers(ctx: Context): Promise<Record<string, number[]>> {
  const killed: Record<string, number[]> = {}
  for (const component of controllers) killed[component] = await killStaticPod(ctx, component)
  return killed
}

async function controllersStartedAnew(ctx: Context, restart: string): Promise<void> {
  const killed = ctx.registered<Record<Controller, number[]>>(restart, ctx.host.name)
  for (const component of controllers) {
    await startedAnew(ctx, component, killed?.[component] ?? [], { within: seconds(90), signal: ctx.signal })
  }
}

// -------------------------------------------------------------------------------------------------- 6 Tokens, copies of the CA, pods

const kubeProxy = { namespace: 'kube-system', name: 'kube-proxy' } as const
const coreDns = { kind: 'Deployment', namespace: 'kube-system', name: 'coredns' } as const
const dnsService = { namespace: 'kube-system', name: 'kube-dns' } as const

const tokens: Play<Context>[] = [
  play('Tokens and copies of the CA', { hosts: 'masters', tags: ['tokens'] }, [
    step('Wait until every namespace has the new kube-root-ca.crt', {
      id: 'wait-for-root-ca',
      when: ctx => !ctx.check,
      readOnly: true,
      runOnce: true,
      run: ctx => everyNamespaceHas(ctx, newAuthority(ctx, 'kubernetes')),
    }),
    step('Regenerate the service-account tokens, namespace by namespace', {
      id: 'regenerate-tokens',
      runOnce: true,
      undoneWith: swapStep,
      plan: async ctx =>
        (await tokenSecrets(await ctx.cluster.api())).map(
          ({ namespace, name }) => `take the token out of Secret ${namespace}/${name}, and wait for the new one`,
        ),
      run: ctx => regenerateTokens(ctx, newAuthority(ctx, 'kubernetes')),
    }),
    step('Update cluster-info and the other copies of the CA', {
      id: 'update-copies',
      runOnce: true,
      undoneWith: swapStep,
      plan: async ctx => [
        ...(await authorityCopies(await ctx.cluster.api(), readingOf(ctx).authority)).map(
          ({ where }) => `put the new CA into ${where}`,
        ),
        `take the old CAs out of ${clientTrustName}, to which API servers only add`,
      ],
      run: ctx => replaceCopies(ctx, { old: oldClientAuthorities(ctx), next: newClientAuthorities(ctx) }),
    }),
  ]),

  play('Restart kube-proxy', { hosts: 'masters:nodes', tags: ['workloads'] }, [
    step('Restart kube-proxy, so that nodes follow what the next restarts change', {
      id: 'restart-kube-proxy',
      runOnce: true,
      undoneWith: swapStep,
      plan: () =>
        `replace the pods of DaemonSet ${kubeProxy.namespace}/${kubeProxy.name}, all at once: the rules stay in the kernel`,
      run: restartKubeProxy,
    }),
    step('Wait until kube-proxy has written its rules', {
      when: ctx => !ctx.check,
      readOnly: true,
      run: kubeProxyRules,
    }),
  ]),

  play('Restart what holds tokens or the old CA', { hosts: 'masters', tags: ['workloads'] }, [
    step('Restart the pod network', {
      runOnce: true,
      undoneWith: swapStep,
      when: ctx => ctx.vars.cni_workloads.length > 0,
      plan: ctx => ctx.vars.cni_workloads.map(one => `rolling restart of ${workloadName(one)}`),
      run: ctx => restartAll(ctx, ctx.vars.cni_workloads),
    }),
    step('Restart CoreDNS', {
      id: 'restart-coredns',
      runOnce: true,
      undoneWith: swapStep,
      plan: () => [
        `rolling restart of ${workloadName(coreDns)}`,
        'have every machine forget the UDP flows that lead to its old pods (conntrack -D)',
      ],
      run: restartCoreDns,
    }),
    step('Restart what the inventory lists', {
      id: 'restart-workloads',
      runOnce: true,
      undoneWith: swapStep,
      when: ctx => ctx.vars.restart_workloads.length > 0,
      plan: ctx => ctx.vars.restart_workloads.map(one => `rolling restart of ${workloadName(one)}`),
      run: ctx => restartAll(ctx, ctx.vars.restart_workloads),
    }),
  ]),
]

/** Waits until every namespace has a CA in its kube-root-ca.crt. */
async function everyNamespaceHas(ctx: Context, ca: string): Promise<void> {
  const what = 'the CA in the kube-root-ca.crt of every namespace'
  await waitFor(what, { within: seconds(120), signal: ctx.signal }, async () => {
    const left = await namespacesWithOtherCa(await ctx.cluster.api(), ca)
    if (left.length > 0) throw new Error(`not yet in ${left.join(', ')}`)
    return true
  })
}

async function regenerateTokens(ctx: Context, ca: string): Promise<{ namespaces: number }> {
  const api = await ctx.cluster.api()
  const namespaces = Map.groupBy(await tokenSecrets(api), ({ namespace }) => namespace)
  for (const [namespace, secrets] of namespaces) {
    const renewed = await Promise.all(
      secrets.map(one => regenerateToken(api, one, { ca, within: seconds(60), signal: ctx.signal })),
    )
    for (const token of renewed) ctx.redact(token.reveal())
    ctx.log(`${namespace}: ${secrets.map(({ name }) => name).join(', ')}`)
  }
  return { namespaces: namespaces.size }
}

/** Puts the CA of `next` wherever the API has a copy of that of `old`, and has nobody trust clients of `old`. */
async function replaceCopies(
  ctx: Context,
  { old, next }: { old: ClientAuthorities; next: ClientAuthorities },
): Promise<string[]> {
  const copies = await authorityCopies(await ctx.cluster.api(), old.kubernetes)
  for (const { where, replace } of copies) {
    await replace(next.kubernetes)
    ctx.log(where)
  }
  await waitFor(`no other CA in ${clientTrustName}`, { within: seconds(60), signal: ctx.signal }, async () => {
    const removed = await tightenClientTrust(await ctx.cluster.api(), { old, next })
    for (const { subject, fingerprint } of removed)
      ctx.log(`${clientTrustName}: without ${subject} (${fingerprint.slice(0, 11)})`)
    return removed.length === 0
  })
  return copies.map(({ where }) => where)
}

async function restartKubeProxy(ctx: Context): Promise<void> {
  await replaceDaemonPods(() => ctx.cluster.api(), kubeProxy, { within: seconds(120), signal: ctx.signal })
}

async function kubeProxyRules(ctx: Context): Promise<void> {
  let asked = 0
  await waitFor(
    `kube-proxy of ${ctx.host.name} to write its rules`,
    { within: seconds(90), signal: ctx.signal, host: ctx.host.name },
    async () => {
      const synced = await kubeProxySynced(ctx)
      // Where it shows no metrics, a while is all that can be given.
      return synced ?? ++asked > 20
    },
  )
}

async function restartAll(ctx: Context, workloads: readonly z.output<typeof workload>[]): Promise<void> {
  await Promise.all(
    workloads.map(async one => {
      await restartWorkload(() => ctx.cluster.api(), one, { within: seconds(300), signal: ctx.signal })
      ctx.log(workloadName(one))
    }),
  )
}

/**
 * Restarts CoreDNS. Each of its old pods still answers for some seconds while it ends (`lameduck`); by then no machine may lead there
 * any more, or a question that gets a port of before is lost, and whoever asked it waits for the 5 s of their resolver.
 */
async function restartCoreDns(ctx: Context): Promise<void> {
  const left = new Set(await readyAddresses(await ctx.cluster.api(), dnsService))
  const failed = new AbortController()
  let rolledOut = false
  const rollout = restartAll(ctx, [coreDns]).then(
    () => {
      rolledOut = true
    },
    error => {
      failed.abort(error)
      throw error
    },
  )
  const forgotten: Promise<unknown>[] = []
  const ended = waitFor(
    'the old pods of CoreDNS to end',
    { within: seconds(330), every: 200, signal: AbortSignal.any([ctx.signal, failed.signal]) },
    async () => {
      const ready = new Set(await readyAddresses(await ctx.cluster.api(), dnsService))
      const ending = [...left].filter(address => !ready.has(address))
      for (const address of ending) left.delete(address)
      if (ending.length > 0)
        forgotten.push(Promise.all(ctx.hosts('masters:nodes').map(host => forgetPods(ctx, host, ending))))
      return rolledOut && left.size === 0
    },
  )
  await Promise.all([rollout, ended])
  await Promise.all(forgotten)
}

/** Has a machine lead nobody to UDP ports of these pods any more, once its kube-proxy has written that they are ending. */
async function forgetPods(ctx: Context, host: Host, addresses: readonly string[]): Promise<void> {
  const { name } = host
  try {
    const session = await ctx.on(host)
    // Its kube-proxy must have heard of it: what is forgotten while new questions are led there is lost itself.
    await delay(seconds(2), undefined, { signal: ctx.signal })
    await waitFor(
      `kube-proxy of ${name} to write its rules`,
      { within: seconds(3), every: 200, signal: ctx.signal, host: name },
      async () => (await kubeProxySynced(session)) ?? true,
    )
    if (!(await forgetUdpFlows(session, addresses)))
      ctx.log(`${name}: conntrack -D did not work: a question to DNS may take 5 s`)
  } catch (error) {
    // Nothing but a delay depends on it.
    if (!ctx.signal.aborted) ctx.log(`${name}: ${(error as Error).message}`)
  }
}

// -------------------------------------------------------------------------------------------------------------------- 7 Verify

const verify: Play<Context>[] = [
  play('Verify', { hosts: 'masters:nodes', tags: ['verify'] }, [
    step('Every TLS endpoint presents a certificate of the new CA', {
      id: 'verify-endpoints',
      when: ctx => !ctx.check,
      readOnly: true,
      run: async ctx => {
        const endpoints = isMaster(ctx)
          ? [...masterEndpoints(planOf(ctx).addresses[ctx.host.name] ?? ''), kubeletEndpoint]
          : [kubeletEndpoint]
        await Promise.all(
          endpoints.map(({ address, port, component, authority }) =>
            waitFor(
              `${component} on ${ctx.host.name}:${port} to present a certificate of the new CA`,
              { within: seconds(60), signal: ctx.signal, host: ctx.host.name },
              async () => {
                const presented = await presentedCertificates(
                  () => ctx.forward(address, port),
                  `${ctx.host.name}:${port}`,
                )
                return verifyChain(presented, newAuthority(ctx, authority), { source: `${ctx.host.name}:${port}` })
              },
            ),
          ),
        )
        ctx.log(endpoints.map(({ port }) => port).join(', '))
      },
    }),
  ]),
  play('Verify the cluster', { hosts: 'masters', tags: ['verify'] }, [
    step('The old admin certificate and the old tokens are refused', {
      id: 'verify-refusals',
      when: ctx => !ctx.check,
      readOnly: true,
      run: async ctx => {
        const api = await ctx.cluster.apiOf(ctx.host)
        const accepted: string[] = []
        const { admin, tokens } = beforeOf(ctx)
        // Signed with the same key, tokens stay what they are.
        const oldTokens = ctx.vars.rotate_service_account_keys ? tokens : []
        const oldAdmin = admin && { certificate: admin.certificate, key: admin.key.reveal() }
        if (oldAdmin && (await api.statusOf('/api/v1/namespaces', oldAdmin)) !== 401)
          accepted.push('the old admin certificate')
        if (oldAdmin) await refusedByControllers(ctx, oldAdmin)
        for (const { namespace, name, token } of oldTokens) {
          if ((await api.statusOf('/api/v1/namespaces', { token: token.reveal() })) !== 401)
            accepted.push(`the old token of ${namespace}/${name}`)
        }
        if (accepted.length > 0) {
          throw new HostFailedError(`${ctx.host.name} still accepts ${accepted.join(', ')}`, {
            code: 'verify.accepted',
            host: ctx.host.name,
          })
        }
        return { tokens: oldTokens.length }
      },
    }),
    step('Every node is Ready, every pod runs', {
      id: 'verify-pods',
      when: ctx => !ctx.check,
      readOnly: true,
      runOnce: true,
      run: everyPodRuns,
    }),
    step('Logs and exec reach every kubelet', {
      id: 'verify-exec',
      when: ctx => !ctx.check,
      readOnly: true,
      runOnce: true,
      run: logsAndExec,
    }),
    step('Secrets that were written before are read, unchanged', {
      id: 'verify-secrets',
      when: ctx => !ctx.check,
      readOnly: true,
      runOnce: true,
      run: secretsUnchanged,
    }),
    step('The canaries are well', {
      readOnly: true,
      runOnce: true,
      when: ctx => !ctx.check && ctx.vars.canary_results !== undefined,
      run: canariesWell,
    }),
    step('Fetch the new admin kubeconfig', {
      runOnce: true,
      plan: ctx => `copy ${adminKubeconfig} to ${join(ctx.folder, 'admin.conf')}`,
      run: async ctx => {
        await fetchFile(ctx, adminKubeconfig, join(ctx.folder, 'admin.conf'))
        ctx.milestone('verified')
      },
      rollback: ctx => rm(join(ctx.folder, 'admin.conf'), { force: true }),
    }),
  ]),
]

/** Waits until the controller-manager and the scheduler, which hear of the CAs through the API, refuse a client of before. */
async function refusedByControllers(ctx: Context, old: { certificate: string; key: string }): Promise<void> {
  const endpoints = masterEndpoints('').filter(({ component }) => controllers.some(one => one === component))
  for (const { address, port, component } of endpoints) {
    const open = () => ctx.forward(address, port)
    const api = kubernetesApi(open, { ca: newAuthority(ctx, 'kubernetes') }, 'localhost')
    const what = `${component} of ${ctx.host.name} to refuse the old admin certificate`
    try {
      await waitFor(what, { within: seconds(60), signal: ctx.signal, host: ctx.host.name }, async () => {
        const status = await api.statusOf('/metrics', old)
        // One that knows nobody by certificates takes it for nobody; what everybody may see proves nothing.
        if (status === 401 || (status === 403 && (await api.statusOf('/metrics', {})) === 403)) return true
        throw new Error(`it answers with ${status}`)
      })
    } finally {
      api.close()
    }
  }
}

async function everyPodRuns(ctx: Context): Promise<void> {
  const names = ctx.hosts('masters:nodes').map(({ name }) => readingOf(ctx, name).nodeName)
  await ctx.cluster.nodesReady(names, { within: seconds(30) })
  await waitFor('every pod to run', { within: seconds(120), signal: ctx.signal }, async () => {
    const bad = (await (await ctx.cluster.api()).list('/api/v1/pods')).filter(pod => !isWell(pod))
    if (bad.length > 0)
      throw new Error(
        bad.map(({ metadata, status }) => `${metadata.namespace}/${metadata.name} is ${status?.phase}`).join(', '),
      )
    return true
  })
}

async function logsAndExec(ctx: Context): Promise<void> {
  const api = await ctx.cluster.api()
  const pods = await api.list('/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-proxy')
  await Promise.all(
    pods.filter(isWell).map(async ({ metadata: { name } }) => {
      await ctx.$`kubectl --kubeconfig ${adminKubeconfig} --namespace kube-system logs --tail 1 ${name}`
      await ctx.$`kubectl --kubeconfig ${adminKubeconfig} --namespace kube-system exec ${name} -- kube-proxy --version`
    }),
  )
}

async function secretsUnchanged(ctx: Context): Promise<void> {
  if ((await secretsDigest(await ctx.cluster.api())) !== beforeOf(ctx).secrets) {
    throw new HostFailedError('the Secrets of the cluster are not those that were there before', {
      code: 'verify.secrets',
      hint: 'Compare with the etcd snapshot; somebody may have changed one during the rotation.',
    })
  }
}

async function canariesWell(ctx: Context): Promise<void> {
  let before = await canaries(ctx)
  await waitFor(
    'every canary to call without a failure',
    { within: seconds(60), every: 2_000, signal: ctx.signal },
    async () => {
      const after = await canaries(ctx)
      const reports = canaryReport(before, after)
      before = after
      const bad = [...reports].filter(([, { calls, failures }]) => calls === 0 || failures > 0)
      if (bad.length > 0)
        throw new Error(
          bad
            .map(([kind, { failures, lastError }]) => `${kind}: ${failures} failed (${lastError ?? 'no calls'})`)
            .join(', '),
        )
      return reports.size > 0
    },
  )
}

function isWell(pod: { readonly [member: string]: unknown; metadata: { deletionTimestamp?: string } }): boolean {
  const status = pod['status'] as { phase?: string; containerStatuses?: { ready: boolean }[] } | undefined
  if (pod.metadata.deletionTimestamp !== undefined || status?.phase === 'Succeeded') return true
  return status?.phase === 'Running' && (status.containerStatuses ?? []).every(({ ready }) => ready)
}

// ------------------------------------------------------------------------------------------------------------------ 8 The way back

/**
 * From wherever the swap, or what comes after it, stopped: the old files first, on all hosts at once, then the same restarts in
 * the same order as on the way there, and prepared for as there.
 */
function wayBack(): Step<Context>[] {
  const master = { when: isMaster }
  const once = { runOnce: true }
  const looks = { readOnly: true }
  const oldAuthority = (ctx: Context) => readingOf(ctx).authority
  const archiveOf = (ctx: Context) => `${backupFolder(ctx)}/host.tgz`
  return [
    step('Check that nobody else has changed these files since', {
      id: 'undo-check-files',
      ...looks,
      run: async ctx => {
        const changed = await changedAfterSwap(ctx, swapOf(ctx), archiveOf(ctx))
        if (changed.length === 0) return
        throw new HostFailedError(`${ctx.host.name}: changed since this run: ${changed.join(', ')}`, {
          code: 'rollback.changed',
          host: ctx.host.name,
          hint: `Another rotation came after this one? Undo that first. The files from before this one are in ${archiveOf(ctx)}.`,
        })
      },
    }),
    step('Restart the kubelet of the masters, so that it starts what is killed at once', {
      id: 'undo-prepare-kubelet',
      ...master,
      run: async ctx => {
        // One without etcd keeps kubelets waiting. Where none answers they do not wait, and it is started again soon anyway.
        if (!(await apiServerIsReady(ctx))) await killStaticPod(ctx, 'kube-apiserver')
        await ctx.$`systemctl restart kubelet`
        await kubeletHealthy(ctx, { within: seconds(60), signal: ctx.signal })
      },
    }),
    step('Wait until the kubelets of the masters went round their pods, where an API server answers', {
      id: 'undo-wait-for-prepared-kubelet',
      ...once,
      ...looks,
      run: wentRoundIfTheyCan,
    }),
    step('Put the old files back, all hosts at once', {
      id: 'undo-swap',
      run: ctx => {
        const { rename, link, remove } = swapOf(ctx)
        return restoreFiles(ctx, ctx.run, archiveOf(ctx), [...rename, ...remove, ...link.map(({ path }) => path)])
      },
    }),
    step('Restart etcd, each member as soon as the one before it serves', {
      id: 'undo-etcd',
      ...once,
      run: restartEtcd,
    }),
    step('Wait for the quorum of etcd', { id: 'undo-quorum', ...master, ...looks, run: quorumOfEtcd }),
    step('Restart the API server', {
      id: 'undo-api-server',
      ...master,
      run: ctx => restartInPlace(ctx, ctx, 'kube-apiserver'),
    }),
    step('Wait until the API server answers', { id: 'undo-answers', ...master, ...looks, run: apiServerAnswers }),
    step('Restart the controller-manager and the scheduler as they were', {
      id: 'undo-controllers',
      ...master,
      run: async ctx => {
        const manifests = controllers.map(component => `${manifestDirectory}/${component}.yaml`)
        await restoreFiles(ctx, ctx.run, archiveOf(ctx), manifests)
        return killControllers(ctx)
      },
    }),
    step('Restart the kubelet', { id: 'undo-kubelet', run: restartThisKubelet }),
    step('Wait until every node is Ready', {
      id: 'undo-ready',
      ...once,
      ...looks,
      run: ctx => restartedNodesReady(ctx, 'masters:nodes', 'undo-kubelet'),
    }),
    step('Wait until the controller-manager and the scheduler run', {
      id: 'undo-controllers-run',
      ...master,
      ...looks,
      run: ctx => controllersStartedAnew(ctx, 'undo-controllers'),
    }),
    step('Wait until every namespace has the old kube-root-ca.crt', {
      id: 'undo-root-ca',
      ...once,
      ...looks,
      run: ctx => everyNamespaceHas(ctx, oldAuthority(ctx)),
    }),
    step('Have the tokens of service accounts signed with the old key', {
      id: 'undo-tokens',
      ...once,
      run: ctx => regenerateTokens(ctx, oldAuthority(ctx)),
    }),
    step('Put the old CA back into cluster-info and its other copies', {
      id: 'undo-copies',
      ...once,
      run: ctx => replaceCopies(ctx, { old: newClientAuthorities(ctx), next: oldClientAuthorities(ctx) }),
    }),
    step('Restart kube-proxy', { id: 'undo-kube-proxy', ...once, run: restartKubeProxy }),
    step('Wait until kube-proxy has written its rules', { id: 'undo-rules', ...looks, run: kubeProxyRules }),
    step('Restart the pod network', {
      id: 'undo-pod-network',
      ...once,
      when: ctx => ctx.vars.cni_workloads.length > 0,
      run: ctx => restartAll(ctx, ctx.vars.cni_workloads),
    }),
    step('Restart CoreDNS and what the inventory lists', {
      id: 'undo-workloads',
      ...once,
      run: async ctx => {
        await restartCoreDns(ctx)
        await restartAll(ctx, ctx.vars.restart_workloads)
      },
    }),
    step('Every TLS endpoint presents the certificate that it had', {
      id: 'undo-verify-endpoints',
      ...looks,
      run: ctx => presentsAgain(ctx),
    }),
    step('The old admin certificate is accepted', { id: 'undo-verify-admin', ...master, ...looks, run: acceptedAgain }),
    step('Every node is Ready, every pod runs', { id: 'undo-verify-pods', ...once, ...looks, run: everyPodRuns }),
    step('Logs and exec reach every kubelet', { id: 'undo-verify-exec', ...once, ...looks, run: logsAndExec }),
    step('Secrets that were written before are read, unchanged', {
      id: 'undo-verify-secrets',
      ...once,
      ...looks,
      run: secretsUnchanged,
    }),
    step('The canaries are well', {
      id: 'undo-verify-canaries',
      ...once,
      ...looks,
      when: ctx => ctx.vars.canary_results !== undefined,
      run: canariesWell,
    }),
  ]
}

/** Compares what the ports of a host present with the certificates that lay on it before. */
async function presentsAgain(ctx: Context): Promise<void> {
  const { certificates } = readingOf(ctx)
  const endpoints = isMaster(ctx)
    ? [...masterEndpoints(planOf(ctx).addresses[ctx.host.name] ?? ''), kubeletEndpoint]
    : [kubeletEndpoint]
  for (const { address, port, component, files } of endpoints) {
    // Of what signs its own certificate there is no file.
    const before = files.map(path => certificates[path]).find(pem => pem !== undefined)
    if (before === undefined) continue
    const where = `${ctx.host.name}:${port}`
    await waitFor(
      `${component} on ${where} to present the certificate that it had`,
      { within: seconds(60), signal: ctx.signal, host: ctx.host.name },
      async () => {
        const presented = await presentedCertificates(() => ctx.forward(address, port), where)
        return parseCertificate(presented).fingerprint === parseCertificate(before).fingerprint
      },
    )
  }
}

async function acceptedAgain(ctx: Context): Promise<void> {
  const { admin } = beforeOf(ctx)
  if (!admin) return
  const api = await ctx.cluster.apiOf(ctx.host)
  const old = { certificate: admin.certificate, key: admin.key.reveal() }
  if ((await api.statusOf('/api/v1/namespaces', old)) === 200) return
  throw new HostFailedError(`${ctx.host.name} refuses the old admin certificate`, {
    code: 'rollback.refused',
    host: ctx.host.name,
  })
}

// ------------------------------------------------------------------------------------------------------------------------ Report

async function report(ctx: RunContext<Variables> & { rotation: Rotation; outcome: string }): Promise<ReportSection[]> {
  if (ctx.check) return []
  if (ctx.mode === 'rollback') return [whereToLook(ctx, [])]
  const { plays, milestones } = ctx.timeline
  const sections: ReportSection[] = [
    { title: 'Phases', rows: plays.map(({ title, milliseconds }) => [title, formatDuration(milliseconds)]) },
  ]
  const since = (name: string) => {
    const [from, to] = [milestones.get('first change'), milestones.get(name)]
    return from === undefined || to === undefined ? 'not reached' : formatDuration(to - from)
  }
  if (milestones.has('first change')) {
    sections.push({
      title: 'From the first change',
      rows: [
        ['until the nodes are Ready', since('nodes ready')],
        ['until all is verified', since('verified')],
      ],
    })
  }
  const plan = ctx.registered<Plan>('plan-the-certificates')
  const made = ctx.registered<Record<string, MadeAuthority>>('generate-the-new-root-cas')
  if (plan && made) {
    sections.push({
      title: 'CAs (SHA-256)',
      rows: authorityPlans(ctx.vars.pki_authorities, { mount: ctx.vars.pki_mount }).flatMap(({ mount, authorities }) =>
        authorities.map((name): [string, string] => {
          const old = plan.oldAuthorities[name]
          const next = made[mount]
          return [
            name,
            `old ${old ? parseCertificate(old).fingerprint : 'none'}\nnew ${next?.fingerprint}\nuntil ${next?.notAfter.slice(0, 10)}`,
          ]
        }),
      ),
    })
    if (milestones.has('first change')) sections.push({ title: 'Certificates replaced', rows: replaced(ctx, plan) })
  }
  const { probes } = ctx.rotation
  if (probes) {
    const gap = ({ calls, failures, longest, total }: GapReport) =>
      `longest ${formatDuration(longest)}, in total ${formatDuration(total)} (${failures} of ${calls} calls failed)`
    const gaps = await probes.stop()
    const gapTo = (address: string) => {
      const seen = gaps.get(address)
      return seen ? gap(seen) : 'not asked'
    }
    sections.push({
      title: 'API gap',
      rows: [
        ['load balancer', gapTo(ctx.vars.api_server)],
        ...ctx.hosts('masters').map((master): [string, string] => [master.name, gapTo(apiServerOf(master))]),
      ],
    })
    const counted = canaryReport(ctx.registered<Counted>('start-the-probes')?.canaries ?? [], await canaries(ctx))
    const calls = (kind: string, what: string): [string, string][] => {
      const one = counted.get(kind)
      return one
        ? [
            [
              what,
              `${one.failures} of ${one.calls} failed, ${one.refused} of them refused${one.lastError ? `\nlast: ${one.lastError.slice(0, 60)}` : ''}`,
            ],
          ]
        : []
    }
    const rows = [
      ...calls('service', 'calls to a Service'),
      ...calls('token', 'API calls with a pod’s token'),
      ...calls('legacy-token', 'API calls with a token from a Secret'),
    ]
    if (rows.length > 0) sections.push({ title: 'Workloads', rows })
  }
  const kubeconfig: [string, string][] = milestones.has('verified')
    ? [['new kubeconfig', join(ctx.folder, 'admin.conf')]]
    : []
  sections.push(whereToLook(ctx, kubeconfig))
  return sections
}

function whereToLook(ctx: RunContext<Variables>, more: readonly (readonly [string, string])[]): ReportSection {
  return {
    title: 'Where to look',
    rows: [
      ['backups on the hosts', backupFolder(ctx)],
      ['backups here', join(ctx.folder, 'backups')],
      ...more,
      ['log', join(ctx.folder, 'events.jsonl')],
      ...(ctx.vars.look_around.length > 0 ? [['look around', ctx.vars.look_around.join('\n')] as const] : []),
    ],
  }
}

/** How many files hold new certificates, by component, and until when the first of them holds. */
function replaced(ctx: Pick<RunContext<Variables>, 'registered' | 'hosts'>, { specs }: Plan): [string, string][] {
  const verified = ctx
    .hosts('masters:nodes')
    .map(({ name }) => ctx.registered<{ until: Record<string, string> }>('verify-what-is-staged', name)?.until ?? {})
  return [...Map.groupBy(specs, ({ component }) => component)].map(([component, group]) => {
    const files = group.reduce((sum, { hosts }) => sum + hosts.length, 0)
    const [until] = verified
      .map(one => one[component])
      .filter(one => one !== undefined)
      .sort()
    return [component, `${files} ${files === 1 ? 'file' : 'files'}, until ${until?.slice(0, 10) ?? 'unknown'}`]
  })
}

// ---------------------------------------------------------------------------------------------------------------------- Playbook

function openRotation(run: RunContext<Variables>): Rotation {
  const cluster = openCluster(run)
  let vault: Promise<Vault> | undefined
  let forgotten = false
  const rotation: Rotation = {
    cluster,
    vault: () => {
      vault ??= connectVault({
        address: run.vars.vault_addr,
        caFile: run.vars.vault_cacert,
        tokenFile: run.vars.vault_token_file,
        signal: run.signal,
      })
      return vault
    },
    staged: new Map(),
    renderers: new Map(),
    forgetOldCredentials: () => {
      if (!forgotten) cluster.forget()
      forgotten = true
    },
    close: async () => {
      await rotation.probes?.stop().catch(() => {})
      await rotation.issuing?.then(made => made.revoke()).catch(() => {})
      await revokeRecorded(run, rotation).catch(({ message }: Error) =>
        run.log(`the run's Vault token could not be revoked, and ends within 30 minutes: ${message}`),
      )
      cluster.close()
      ;(await vault?.catch(() => undefined))?.close()
    },
  }
  return rotation
}

export default playbook({
  name: 'rotate-ca',
  summary: 'Replace the CAs of a kubeadm cluster and every certificate under them, all at once, from Vault PKI',
  vars: variables,
  services: (run: RunContext<Variables>) => {
    const rotation = openRotation(run)
    return { rotation, cluster: rotation.cluster, close: () => rotation.close() }
  },
  plays: [...preflight, ...backupPlays(), ...vaultPki, ...certificates, ...observe, ...restarts, ...tokens, ...verify],
  report,
})
