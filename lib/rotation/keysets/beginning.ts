// How every stage begins: the variables that it takes, what it holds in memory; each host looked at, the keysets read, what a stage changes
// backed up, the API asked from here on.
import type { z } from 'zod'
import { type Play, play, type RunContext, type StepContext, type StepDefinition, step } from '../../playbook/model.ts'
import * as drift from '../as-found/drift.ts'
import * as extra from '../as-found/extra.ts'
import * as authorities from '../authorities.ts'
import * as backup from '../backup.ts'
import * as conditions from '../conditions.ts'
import * as copies from '../copies.ts'
import { everyMachine } from '../given/hosts.ts'
import { type Services as Others, openServices as open } from '../given/services.ts'
import * as vault from '../given/vault.ts'
import * as observe from '../observe.ts'
import * as preflight from '../preflight.ts'
import * as report from '../report.ts'
import { variables as drainVariables } from '../restart/drained.ts'
import { bundlesOf, oneNameEach } from './bundles.ts'
import * as pods from './cluster/pods.ts'
import type { WithVisitors } from './credentials.ts'
import { noteUnknowing } from './gates.ts'
import { askVault } from './issuers.ts'
import { everyKeyFile } from './key-files.ts'
import { look } from './state.ts'
import * as canary from './trust/canary.ts'
import * as chosen from './which/chosen.ts'
import { plan } from './which/plan.ts'

export const variables = {
  ...chosen.variables, // keysets
  ...vault.variables, // vault_addr, vault_cacert, vault_token_file
  ...authorities.variables, // cluster_name, pki_authorities, pki_mount, ca_ttl, certificate_ttl, vault_manage_roles
  ...preflight.variables, // clock_tolerance
  ...conditions.variables, // accept
  ...backup.variables, // backup_directory
  ...extra.variables, // extra_certificates
  ...observe.variables, // api_server, canary_results
  ...copies.variables, // ca_copies
  ...pods.variables, // restart_pods
  ...drainVariables, // drain_timeout, accept_gap
  ...canary.variables, // canary_watch
  ...report.variables, // look_around
}

/** What the stages of a rotation of keysets need. */
export type Services = Others & WithVisitors

/** Opens them; nothing is connected before a step asks. */
export function openServices(run: RunContext<vault.Variables>): Services & { close(): Promise<void> } {
  return { ...open(run), visitors: new Map() }
}

/** What the steps of a stage get. */
export type Context = StepContext<z.output<z.ZodObject<typeof variables>>> & Services

/** Looks at hosts, cluster, keysets and Vault. Changes nothing. */
export const lookAround: readonly Play<Context>[] = [
  play<Context>('Preflight: every host', { hosts: everyMachine, tags: ['preflight'] }, [
    step('Read the clock', preflight.readClock),
    step('Compare the clocks', preflight.compareClocks),
    step('Read the certificates', preflight.readCertificates),
    step('Compare what runs with what lies there', drift.compare),
    step('Check the space for backups', preflight.checkSpace),
  ]),
  play<Context>('Preflight: nodes, keysets, Vault', { hosts: 'masters', tags: ['preflight'] }, [
    step('Look at the cluster: nodes, pods, webhooks', conditions.look),
    step('Plan the certificates', plan),
    step('Look at the keysets', look),
    step('Ask Vault', askVault),
    step('Look for second names of the files that change', oneNameEach),
    step('Note which servers know the clients of these CAs', noteUnknowing),
  ]),
]

/** A check of etcd for runs about its CA. Remembered: a run that is gone on with may find a member that it was restarting. */
const ofEtcd = (check: StepDefinition<Context>): StepDefinition<Context> => ({
  ...check,
  remember: true,
  when: ctx => chosen.chosenAuthorities(ctx).includes('etcd'),
})

/** Of runs about etcd's CA: all members are well, and in the inventory. One that is not would go by the old CA alone. */
export const etcdIsWhole = [
  step('Check etcd, where this is about its CA', ofEtcd(preflight.checkEtcd)),
  step('Check the members of etcd, where this is about its CA', ofEtcd(preflight.checkEtcdMembers)),
]

/** The play that begins to ask the API as its users do. */
export const probesTitle = 'Start the probes'

/** Backs up the hosts, and begins to ask the API as its users do. */
export const beginning: readonly Play<Context>[] = [
  play<Context>('Back up the hosts', { hosts: everyMachine, tags: ['backup'] }, [
    step(
      'Back up keys and configuration',
      backup.hostsWith(ctx => [...bundlesOf(ctx), ...everyKeyFile(ctx)]),
    ),
  ]),
  play<Context>(probesTitle, { hosts: 'masters', tags: ['probes'] }, [
    step('Ask the API in all ways, and note what the canaries have counted', {
      ...observe.startProbesOfAllKinds,
      beginsRollback: true,
    }),
  ]),
]
