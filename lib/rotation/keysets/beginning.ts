// How every stage begins: each host looked at, the keysets read, what a stage changes backed up, the API asked from here on.

import type { z } from 'zod'
import type { StepContext } from '../../playbook/model.ts'
import { type Play, play, step } from '../../playbook/model.ts'
import * as drift from '../as-found/drift.ts'
import * as backup from '../backup.ts'
import * as conditions from '../conditions.ts'
import { everyMachine } from '../given/hosts.ts'
import * as observe from '../observe.ts'
import * as preflight from '../preflight.ts'
import { oneNameEach } from './bundles.ts'
import { plan } from './chosen.ts'
import { askVault } from './issuers.ts'
import type { Services } from './services.ts'
import { look } from './state.ts'
import type { variables } from './variables.ts'

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
  ]),
]

/** Backs up the hosts, and begins to ask the API as its users do. */
export const beginning: readonly Play<Context>[] = [
  play<Context>('Back up the hosts', { hosts: everyMachine, tags: ['backup'] }, [
    step('Back up keys and configuration', backup.hosts),
  ]),
  play<Context>('Start the probes', { hosts: 'masters', tags: ['probes'] }, [
    step('Ask the API five times a second, and note what the canaries have counted', observe.startProbes),
  ]),
]
