// The one place that says what of an event is searched for secrets: its free text (`Text` in events.ts), and nothing else. The compiler holds
// the list to the types.
import type { EventCurve, EventError, EventMetric, RunEventBody, Text } from '../events.ts'

type Kind = RunEventBody['kind']
type EventOf<K extends Kind> = Extract<RunEventBody, { readonly kind: K }>
type Search = (text: string) => string

/** Whether free text is in a type. */
type HasText<T> = T extends string
  ? T extends Text
    ? keyof T extends keyof string
      ? false
      : true
    : false
  : T extends readonly (infer Item)[]
    ? HasText<Item>
    : T extends object
      ? true extends { [Field in keyof T]-?: HasText<Exclude<T[Field], undefined>> }[keyof T]
        ? true
        : false
      : false

type TextFields<E> = {
  [Field in keyof E]-?: true extends HasText<Exclude<E[Field], undefined>> ? Field : never
}[keyof E]

/** Has all free text of a field searched. */
type FieldSearch<T> = (value: Exclude<T, undefined>, search: Search) => T

const one = (text: Text, search: Search): Text => search(text)
const each = (texts: readonly Text[], search: Search): Text[] => texts.map(text => search(text))
const error = ({ message, hint, ...rest }: EventError, search: Search): EventError => ({
  ...rest,
  message: search(message),
  ...(hint === undefined ? {} : { hint: search(hint) }),
})

const curve = (one: EventCurve, search: Search): EventCurve => ({
  ...one,
  label: search(one.label),
  gaps: one.gaps.map(gap => ({ ...gap, reason: search(gap.reason) })),
})

const metric = ({ help, labels, ...rest }: EventMetric, search: Search): EventMetric => ({
  ...rest,
  help: search(help),
  ...(labels && { labels: Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, search(value)])) }),
})

const fields: { readonly [K in Kind]: { readonly [Field in TextFields<EventOf<K>>]: FieldSearch<EventOf<K>[Field]> } } =
  {
    'run.started': { summary: one },
    'play.started': {},
    'step.started': {},
    'step.output': { line: one },
    'step.diff': { diff: each },
    'step.finished': { would: each, error },
    'play.finished': {},
    milestone: {},
    notice: { text: one },
    'run.report': {
      sections: (sections, search) =>
        sections.map(({ title, rows, curves, metrics }) => ({
          title: search(title),
          rows: rows.map(([label, value]) => [search(label), search(value)] as const),
          ...(curves && { curves: curves.map(one => curve(one, search)) }),
          ...(metrics && { metrics: metrics.map(one => metric(one, search)) }),
        })),
    },
    'run.finished': {
      failures: (failures, search) => failures.map(failure => ({ ...failure, error: error(failure.error, search) })),
      error,
    },
  }

/** What replaces secrets in free text. */
export interface TextSearch {
  text(text: string): string
  /** The same for the lines that a step prints on a host, one after the other. */
  line(stream: string, line: string, goesOn?: boolean): string
  ended(stream: string): void
}

/** An event as others may see it: its free text without secrets, its identities as they are. */
export function searched<E extends RunEventBody>(event: E, search: TextSearch): E {
  if (event.kind === 'step.output' && event.stream !== 'log') {
    return { ...event, line: search.line(streamOf(event, event.stream), event.line, event.goesOn) }
  }
  if (event.kind === 'step.finished') for (const stream of ['stdout', 'stderr']) search.ended(streamOf(event, stream))
  const result: Record<string, unknown> = { ...event }
  for (const [field, searchField] of Object.entries(fields[event.kind])) {
    if (result[field] !== undefined) result[field] = (searchField as FieldSearch<unknown>)(result[field], search.text)
  }
  return result as E
}

function streamOf({ play, step, host }: { play: number; step: string; host: string }, stream: string): string {
  return `${play} ${step} ${host} ${stream}`
}
