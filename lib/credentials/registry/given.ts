// What a rotation of a registry's credential goes by: the variables, and what its steps registered.
import { z } from 'zod'
import type { Secret } from '../../connection/shell.ts'
import { duration } from '../../playbook/duration.ts'
import type { RunContext } from '../../playbook/model.ts'
import { list, must, type OnCluster } from '../given.ts'
import type { Credential, Shape } from './docker-config.ts'

const minutes = (count: number) => count * 60_000

export const variables = {
  /** Host of the registry, with its port where pods name one. */
  registry: z
    .string()
    .regex(/^[a-zA-Z0-9.-]+(:\d+)?$/, 'it is no host of a registry, such as registry.example.com:5000'),
  /** Whose credential is replaced. */
  registry_user: z.string().min(1),
  /** The file on this machine with the new one: `USER:PASSWORD`, readable by its owner alone. */
  registry_new_file: z.string().min(1).optional(),
  /** Or where Vault's key-value engine has it, as `username` and `password`. */
  registry_new_vault: z.string().min(1).optional(),
  vault_addr: z.url().optional(),
  vault_cacert: z.string().optional(),
  vault_token_file: z.string().optional(),
  /** Images that are pulled to try a credential, on each node; one that pods use where nothing is said. */
  registry_images: list(z.string()).optional(),
  /** The registry's log: a unit of systemd (`NAME.service`) or a file, on a host of the inventory. */
  registry_log: z.string().min(1).optional(),
  registry_log_host: z.string().min(1).optional(),
  /** How long the log must name the old user no more, and how long that may take. */
  registry_quiet: duration.default(minutes(2)),
  registry_quiet_within: duration.default(minutes(30)),
  /** How long kubelets go on with what they have read of a file on their node. */
  kubelet_cache: duration.default(minutes(5)),
  /** How long one pull may take. */
  pull_within: duration.default(minutes(5)),
  /**
   * What may be so: `owner/NAMESPACE/NAME` (a Secret that something else writes, and that is changed all the same), `secret/NAMESPACE/NAME` (one that is
   * left as it is), `node/NAME` (one that is not in the run), `old/refused`, `open/REGISTRY`. `*` stands for anything.
   */
  accept: list(z.string().regex(/^(owner|secret|node|old|open)\/./)).default([]),
}

export type Variables = z.output<z.ZodObject<typeof variables>>
export type Context = OnCluster<Variables>
type Run = Pick<RunContext<Variables>, 'registered'>

export const ids = {
  read: 'read-the-new-credential',
  node: 'look-at-the-node',
  everyNode: 'every-node-is-in-the-run',
  find: 'find-what-holds-it',
  without: 'pull-without-a-credential',
  old: 'the-old-one-is-taken',
  log: 'note-where-the-log-is',
  put: 'put-it-into-secrets',
  files: 'put-it-into-files',
  quiet: 'nobody-asks-as-the-old-user',
} as const

/** A file of a node that has the credential. */
export interface NodeFile {
  /** As it is read, and where it lies when links are followed. */
  readonly path: string
  readonly real: string
  readonly mode: number
  readonly owner: string
  /** Docker's two forms, or one of containerd's own. */
  readonly kind: Shape | 'runtime'
  readonly text: Secret
}

/** What `lookAtNode` registers. */
export interface Node {
  /** Its name in the API; none where no kubelet runs. */
  readonly node?: string
  /** Where its container runtime listens. */
  readonly socket: string
  readonly files: readonly NodeFile[]
  /** The old user's passwords there, other than the new one. */
  readonly passwords: readonly Secret[]
  /** Whether the runtime has a credential of its own for the registry, whosever it is. */
  readonly hasOwn: boolean
  /** Whether the runtime is to be started anew once its file was changed. */
  readonly restarts: boolean
}

/** A Secret with the credential. */
export interface Holder {
  readonly namespace: string
  readonly name: string
  readonly shape: Shape
  /** Which of the plan's texts it held. */
  readonly text: number
}

/** What `find` registers. */
export interface Plan {
  /** Each text once: most often one Secret was copied into many namespaces. */
  readonly texts: readonly Secret[]
  readonly holders: readonly Holder[]
  /** The distinct passwords of the old user, in Secrets and on nodes. */
  readonly passwords: readonly Secret[]
  readonly images: readonly string[]
  /** Service accounts that hand such Secrets to their pods, and Secrets of other types that hold the credential; by name. */
  readonly accounts: readonly string[]
  readonly others: readonly string[]
  /** Secrets that are left as they are, as was accepted by name. */
  readonly left: readonly string[]
}

export const nodeOf = (run: Run, host: string): Node => must(run.registered<Node>(ids.node, host), ids.node)
export const planOf = (run: Run): Plan => must(run.registered<Plan>(ids.find), ids.find)

/** The new credential. */
export function nextOf(run: Run): Credential {
  const { user, password } = must(run.registered<{ user: string; password: Secret }>(ids.read), ids.read)
  return { user, password: password.reveal() }
}

/** The old one that the registry took before the first change; none where it took none any more. */
export function oldOf(run: Run & { readonly vars: Variables }): Credential | undefined {
  const [first] = must(run.registered<{ valid: readonly number[] }>(ids.old), ids.old).valid
  return first === undefined
    ? undefined
    : { user: run.vars.registry_user, password: planOf(run).passwords[first]!.reveal() }
}

/** Whether an entry of the old user is one that is to go: the user may be the same before and after. */
export const isOld = (next: Credential, { registry_user }: Variables, password: string): boolean =>
  registry_user !== next.user || password !== next.password
