// What steps over a kOps cluster go by: the variables of its playbooks, and what is open for the run.
import { z } from 'zod'
import { duration } from '../playbook/duration.ts'
import type { StepContext } from '../playbook/model.ts'
import type { StateStore } from './store/store.ts'

/** How far a rotation may go, in order. */
export const ends = ['staged', 'promoted', 'distrusted'] as const

export type End = (typeof ends)[number]

const hour = 3_600_000

/** What every playbook over a kOps cluster takes. */
export const variables = {
  /** Its name, as `kops get clusters` has it. */
  cluster: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,252}$/, 'it is no name of a cluster'),
  /** Its state store: `s3://BUCKET`, `file:///FOLDER`; as `kops --state` takes it. */
  state: z.string().regex(/^[a-z0-9]+:\/\/[^\s?#]+$/, 'it is no state store such as s3://BUCKET'),
  /** The kops to call: a path, or a name that is on PATH. */
  kops_binary: z.string().min(1).default('kops'),
  /** More variables of the environment that hold secrets of the cloud, with commas between them: others by such names no command is given. */
  cloud_secrets: z
    .string()
    .regex(/^(\w+(,\w+)*)?$/, 'it is no list of names')
    .default(''),
  /** How long an admin credential lives that is exported: longer than a rolling update takes. */
  admin: duration.default(24 * hour),
  /** How long `update cluster` may take. A cloud endpoint that does not answer makes kops try again for minutes. */
  update_within: duration.default(hour / 6),
  /** How long one `rolling-update cluster` may take. */
  roll_within: duration.default(6 * hour),
  /** How long `validate cluster` waits for the cluster to be well. */
  validate_within: duration.default(hour / 4),
  /** Replaces instances without asking the API: no draining, no validation, and nothing of the API is looked at. */
  cloudonly: z.boolean().default(false),
  /** More flags of `rolling-update cluster`, as its command line has them: `--node-interval 2m`. */
  rolling_flags: z.string().default(''),
  /** What `update cluster` may apply beside key pairs, by name: `pending/KIND/NAME`. */
  accept: z.array(z.string()).default([]),
  /** Goes without a lock and an audit line, where the state store is none that rekey can write: who else works on it, the operator knows. */
  without_lock: z.boolean().default(false),
}

/** What a rotation of keysets takes beside that. */
export const rotationVariables = {
  ...variables,
  /** Which, with commas between them; all that kOps can rotate where nothing is said. */
  keysets: z.string().default('all'),
  /** What an earlier run left half-way, where that can't be told from what others leave: a distrust that was not rolled out. */
  unfinished: z.enum(['distrusted']).optional(),
  /** After which stage it ends. */
  until: z.enum(ends).default('distrusted'),
  /** How long both are trusted, and the new ones sign, before the old ones are distrusted. */
  soak: duration.default(0),
}

export type Variables = z.output<z.ZodObject<typeof variables>>
export type RotationVariables = z.output<z.ZodObject<typeof rotationVariables>>

/** What is open for a run. */
export interface KopsServices {
  readonly kops: {
    /** The state store, where it is one that rekey reads by itself. */
    readonly store: StateStore | undefined
    /** Throws where somebody took the lock of the cluster. */
    stillLocked(): void
    /** Is told how the run ended, for the audit line. */
    ended(outcome: string): void
  }
}

/** A step over any kOps cluster. */
export type Context = StepContext<Variables> & KopsServices

/** A step of a rotation of keysets. */
export type Rotation = StepContext<RotationVariables> & KopsServices

/** Whether a run goes on to a stage. A check looks at where it stands alone: what the others would do hangs on what the first has done. */
export const goesOnTo =
  (end: End) =>
  ({ vars, check }: Pick<Rotation, 'vars' | 'check'>): boolean =>
    (!check || end === 'staged') && ends.indexOf(end) <= ends.indexOf(vars.until)
