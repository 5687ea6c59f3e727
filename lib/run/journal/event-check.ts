// What may be taken for an event of a run: a journal may be cut, of another rekey, or written by somebody else.
import { z } from 'zod'
import type { RunEvent } from '../events.ts'

/** The last moment that has a date. */
const lastMoment = 8_640_000_000_000_000
const at = z.number().min(-lastMoment).max(lastMoment)
const index = z.number().int().min(0)
const milliseconds = z.number()
const strings = z.array(z.string())
/** It is part of paths, here and on hosts. */
const runId = z.string().regex(/^(?!\.{1,2}$)[^/\p{Cc}]{1,255}$/u)
const error = z.looseObject({ message: z.string(), code: z.string().optional(), hint: z.string().optional() })
const outcome = z.enum(['ok', 'changed', 'skipped', 'failed', 'unreachable', 'unknown', 'cancelled'])
const ofStep = { at, play: index, step: z.string(), host: z.string() }

const step = z.looseObject({
  id: z.string(),
  title: z.string(),
  runOnce: z.boolean().default(false),
  section: z.enum(['rescue', 'always', 'handler']).optional(),
  block: z.string().optional(),
})
const selection = z.looseObject({
  limit: strings.optional(),
  tags: strings.optional(),
  skipTags: strings.optional(),
  startAtStep: z.string().optional(),
  forceHandlers: z.boolean().optional(),
  forks: z.number().int().min(1).optional(),
  to: z.string().optional(),
  extraVars: strings.optional(),
  unrehearsed: z.string().optional(),
})

/** The events that say what was done. What runs did not say once is filled in: such a run can be shown, and not gone on with. */
const told: Partial<Record<RunEvent['kind'], z.ZodType>> = {
  'run.started': z.looseObject({
    at,
    mode: z.enum(['run', 'resume', 'rollback']).default('run'),
    run: runId,
    playbook: z.string(),
    summary: z.string(),
    inventory: strings,
    operator: z.string(),
    check: z.boolean(),
    selection: selection.default({}),
    plays: z.array(
      z.looseObject({ title: z.string(), tags: strings.optional(), hosts: strings, steps: z.array(step) }),
    ),
    commit: z.string().default('unknown'),
    playbookFile: z.string().default(''),
    playbookHash: z.string().default(''),
    inventoryHashes: z.record(z.string(), z.string()).default({}),
    process: z
      .looseObject({ machine: z.string(), pid: z.number(), started: z.string(), scope: z.string().optional() })
      .default({ machine: '', pid: 0, started: '' }),
  }),
  'step.started': z.looseObject({ ...ofStep, again: z.literal(true).optional() }),
  'step.finished': z.looseObject({
    ...ofStep,
    milliseconds,
    outcome,
    earlier: z.literal(true).optional(),
    declined: z.literal(true).optional(),
    handled: z.enum(['ignored', 'rescued']).optional(),
    returned: z.literal(true).optional(),
    notified: z.looseObject({ handlers: strings, hosts: strings }).optional(),
    predicted: z.enum(['change', 'run', 'unknown']).optional(),
    error: error.optional(),
  }),
  milestone: z.looseObject({ at, name: z.string() }),
  'run.finished': z.looseObject({
    at,
    milliseconds,
    outcome: z.enum(['done', 'failed', 'interrupted']),
    state: strings.optional(),
    error: error.optional(),
  }),
}

/** Those that say nothing of how far a run came. */
const others: readonly string[] = [
  'play.started',
  'play.finished',
  'step.output',
  'step.diff',
  'notice',
  'run.report',
] satisfies RunEvent['kind'][]

/** An event, or why a line of a journal is none that can be used. */
export type Checked = { readonly event: RunEvent } | { readonly wrong: string }

/** Looks at a line of a journal. */
export function checkEvent(line: string): Checked {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return { wrong: "can't be read" }
  }
  const kind = (value as { kind?: unknown } | null)?.kind
  if (typeof kind !== 'string') return { wrong: 'is no event of a run' }
  if (others.includes(kind)) return { event: value as RunEvent }
  const schema = Object.hasOwn(told, kind) ? told[kind as RunEvent['kind']] : undefined
  if (!schema) return { wrong: `is of a kind that this rekey does not know: ${JSON.stringify(kind.slice(0, 64))}` }
  const result = schema.safeParse(value)
  if (result.success) return { event: result.data as RunEvent }
  const [issue] = result.error.issues
  return { wrong: `is no whole '${kind}': ${[...(issue?.path ?? [])].join('.')}: ${issue?.message}` }
}
