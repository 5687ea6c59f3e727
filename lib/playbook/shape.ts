// The shape of what a file exports: which options plays, blocks and steps have, and what each may be. What nobody knows would be done in
// silence otherwise, or on the wrong hosts, and what is of the wrong kind fail in the middle of a run.
import { RekeyError, shown } from '../errors.ts'
import { didYouMean } from '../suggestion.ts'
import {
  type Block,
  type Play,
  type Playbook,
  type ReportCurve,
  type ReportMetric,
  type ReportSection,
  type Step,
  whereMade,
} from './model.ts'
import { schemaShape } from './variables.ts'

/** What an option may be. */
interface Kind {
  /** Ends the sentence `… must be`. */
  readonly must: string
  is(value: unknown): boolean
  readonly hint?: string
}

interface Option extends Kind {
  readonly required?: true
}

type Options<Of> = Readonly<Record<keyof Of & string, Option>>

interface Place {
  readonly place: string
  /** In the file itself: what other files make has the line of what holds it. Asked of mistakes alone: it takes long to find. */
  line(): number | undefined
}

/** Something that is not as it must be. */
interface Mistake extends Place {
  readonly what: string
  readonly hint?: string
}

/** Bytes of a name that goes into names of files, which hold a time, a host and more beside it. */
const longestName = 100
const longestTitle = 200
/** Mistakes that are told one by one. */
const mostMistakes = 20
/** Node's timers know no more: beyond, they ring at once. */
const longestDelay = 2 ** 31 - 1

const isText = (value: unknown): value is string => typeof value === 'string' && value.trim() !== ''
const isList = (value: unknown): value is readonly unknown[] => Array.isArray(value)
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !isList(value)

const line: Kind = {
  must: `a text of one line, ${longestTitle} letters at most`,
  is: value => isText(value) && value.length <= longestTitle && !/\p{Cc}/u.test(value),
}
const text: Kind = { must: 'a text', is: isText }
const name: Kind = {
  must: `letters, digits, dots, dashes and underscores, ${longestName} bytes at most: files are called after it`,
  is: value =>
    isText(value) && /^[\p{L}\p{N}_][\p{L}\p{M}\p{N}_.:-]*$/u.test(value) && Buffer.byteLength(value) <= longestName,
}
const truth: Kind = { must: 'true or false', is: value => typeof value === 'boolean' }
/** What a generator would do is done by whoever asks it for its values, and nobody does. */
const action: Kind = {
  must: 'a function',
  is: value => typeof value === 'function' && !/Generator/.test(Object.prototype.toString.call(value)),
}
const condition: Kind = {
  ...action,
  hint: 'Write a function of the context, ctx => …; what is never to be done is left out of the playbook.',
}
const list: Kind = { must: 'a list', is: isList }
const ids: Kind = {
  must: 'the id of a handler, or a list of ids',
  is: value => isText(value) || (isList(value) && value.every(isText)),
}
const tags: Kind = {
  must: 'a list of texts without commas',
  is: value => isList(value) && value.every(one => isText(one) && !one.includes(',')),
  hint: "Write tags: ['one', 'another'].",
}
const count: Kind = {
  must: 'a whole number from 0',
  is: value => Number.isSafeInteger(value) && (value as number) >= 0,
}
const pause: Kind = {
  must: `milliseconds, from 0 to ${longestDelay} (24 days)`,
  is: value => typeof value === 'number' && value >= 0 && value <= longestDelay,
}
const either = (...words: string[]): Kind => ({
  must: `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`,
  is: value => words.includes(value as string),
})
const sizes: Kind = {
  must: 'a number of hosts from 1, a percentage above 0, or a list of these',
  is: value => [value].flat().every(isSize),
  hint: "Write 1, '30%', or a list such as [1, '30%']; without serial, all hosts go together.",
}
const isSize = (size: unknown) =>
  typeof size === 'string'
    ? /^\d+(\.\d+)?%$/.test(size) && Number.parseFloat(size) > 0
    : Number.isInteger(size) && Number(size) > 0

const rules = { ignoreErrors: truth, ignoreUnreachable: truth, anyErrorsFatal: truth }

const playbookOptions: Options<Playbook> = {
  name: { ...name, required: true },
  summary: { ...text, required: true },
  vars: {
    required: true,
    must: 'a schema of zod 4 for an object',
    is: value => schemaShape(value) !== undefined,
    hint: "Write vars: z.object({ … }), with import { z } from 'zod'; z.object({}) where it takes none.",
  },
  services: action,
  plays: { required: true, must: 'a list of plays, one at least', is: value => isList(value) && value.length > 0 },
  report: action,
}

const playOptions: Options<Play> = {
  title: { ...line, required: true },
  hosts: {
    required: true,
    must: 'a pattern of hosts in one text',
    is: isText,
    hint: "Write hosts: 'masters:nodes' for the hosts of two groups.",
  },
  serial: sizes,
  strategy: either('linear', 'free'),
  order: either('inventory', 'reverse_inventory', 'sorted', 'reverse_sorted', 'shuffle'),
  maxFailPercentage: {
    must: 'a percentage, from 0 to 100',
    is: value => typeof value === 'number' && value >= 0 && value <= 100,
  },
  tags,
  steps: { ...list, required: true },
  handlers: list,
  forceHandlers: truth,
  rollback: list,
  ...rules,
}

const blockOptions: Options<Block> = {
  title: { ...line, required: true },
  tags,
  when: condition,
  steps: { ...list, required: true },
  rescue: list,
  always: list,
  ...rules,
}

const stepOptions: Options<Step> = {
  id: {
    ...name,
    required: true,
    hint: 'Without an id it is made of the ASCII letters and digits of the title. Give it one: id: …',
  },
  title: { ...line, required: true },
  readOnly: truth,
  remember: truth,
  together: truth,
  runOnce: truth,
  delegateTo: {
    must: 'the name of a host, or a function that finds it',
    is: value => isText(value) || action.is(value),
  },
  tags,
  when: condition,
  check: condition,
  plan: action,
  run: { ...action, required: true },
  verify: action,
  retries: count,
  delay: pause,
  until: condition,
  notify: ids,
  rollback: action,
  irreversible: text,
  undoneWith: text,
  beginsRollback: truth,
  ...rules,
}

/** What has another name or place here than in Ansible, or than one may think. */
const elsewhere: Readonly<Record<string, string>> = {
  become: 'As whom commands are run, the inventory says: ansible_become, ansible_become_user; or the option -b.',
  become_user: 'As whom commands are run, the inventory says: ansible_become, ansible_become_user; or the option -b.',
  become_method: 'How another user is become, the inventory says: ansible_become_method.',
  remote_user: 'As whom to log in, the inventory says: ansible_user; or the option -u.',
  connection: 'How hosts are reached, the inventory says: ansible_connection.',
  no_log: 'Make what must not show a secret(), or tell it to ctx.redact().',
  loop: 'Write a for loop, in run or around step().',
  with_items: 'Write a for loop, in run or around step().',
  environment: 'Set it in the command: $`NAME=value command`.',
  register: 'What run returns is known by the id of the step: ctx.registered(id).',
  changed_when: 'A run that changed nothing returns unchanged().',
  failed_when: 'Throw a HostFailedError in run or in verify.',
  check_mode: 'A step that only looks is readOnly, and --check runs it.',
  name: 'A title is the first argument.',
  gather_facts: 'A readOnly step that returns them gathers facts.',
  tasks: 'The steps are the last argument.',
  pre_tasks: 'The steps are the last argument.',
  post_tasks: 'The steps are the last argument.',
  roles: 'A role is a function that returns steps.',
  vars: "Variables are the playbook's: vars: z.object({ … }).",
  run_once: 'runOnce is an option of steps.',
}

/**
 * Checks that what a file exports is a playbook, as far as each option by itself can tell.
 * @param file where it is, for messages
 * @param exported finds the line of its export
 * @throws RekeyError with every option that is not known or not as it must be, and its place
 */
export function checkShape(
  playbook: unknown,
  file: string,
  exported?: () => number | undefined,
): asserts playbook is Playbook {
  const mistakes: Mistake[] = []
  const check = (
    of: unknown,
    options: Readonly<Record<string, Option>>,
    at: Place,
    what: string,
  ): of is Readonly<Record<string, unknown>> => {
    if (!isObject(of)) {
      mistakes.push({
        ...at,
        what: `it must be ${what}, not ${shown(of)}`,
        hint: `Make it with ${what.split(' ').at(-1)}(…).`,
      })
      return false
    }
    for (const [key, { required, must, is, hint }] of Object.entries(options)) {
      const value = of[key]
      if (value === undefined ? !required : is(value)) continue
      mistakes.push({
        ...at,
        what: value === undefined ? `${key} is missing` : `${key} must be ${must}, not ${shown(value)}`,
        hint,
      })
    }
    for (const key of Object.keys(of)) {
      if (!Object.hasOwn(options, key) && of[key] !== undefined)
        mistakes.push({ ...at, ...unknownOption(key, what, Object.keys(options)) })
    }
    return true
  }
  const checkItems = (items: unknown, within: Place, of: 'step' | 'handler' | 'rescue' | 'always' | 'rollback') => {
    for (const [index, item] of (isList(items) ? items : []).entries()) {
      const isBlock = isObject(item) && 'steps' in item && (of === 'step' || of === 'rescue' || of === 'always')
      const part = of === 'step' ? (isBlock ? 'block' : 'step') : of === 'handler' ? 'handler' : `${of} step`
      const at = {
        place: `${within.place}, ${part} ${index + 1}${titled(item)}`,
        line: () => lineIn(file, item) ?? within.line(),
      }
      if (!isBlock) check(item, stepOptions, at, 'a step')
      else if (check(item, blockOptions, at, 'a block')) {
        checkItems(item['steps'], at, 'step')
        checkItems(item['rescue'], at, 'rescue')
        checkItems(item['always'], at, 'always')
      }
    }
  }
  const line = () => lineIn(file, playbook) ?? exported?.()
  if (check(playbook, playbookOptions, { place: '', line }, 'a playbook')) {
    for (const [index, play] of (isList(playbook['plays']) ? playbook['plays'] : []).entries()) {
      const at = { place: `play ${index + 1}${titled(play)}`, line: () => lineIn(file, play) ?? line() }
      if (!check(play, playOptions, at, 'a play')) continue
      checkItems(play['steps'], at, 'step')
      checkItems(play['handlers'], at, 'handler')
      checkItems(play['rollback'], at, 'rollback')
    }
  }
  if (mistakes.length > 0) throw mistaken(mistakes, file)
}

/** The line of a file on which a part was made; `undefined` where that was elsewhere. */
export function lineIn(file: string, part: unknown): number | undefined {
  const made = whereMade(part)
  return made?.startsWith(`${file}:`) ? Number(made.slice(file.length + 1)) : undefined
}

function mistaken(mistakes: readonly Mistake[], file: string): RekeyError {
  const code = 'playbook.shape'
  const [first] = mistakes
  if (mistakes.length === 1) {
    const at = [file, first!.line()].filter(Boolean).join(':')
    return new RekeyError([at, first!.place, first!.what].filter(Boolean).join(': '), { code, hint: first!.hint })
  }
  const told = mistakes.slice(0, mostMistakes).map(({ place, line, what, hint }) => {
    const number = line()
    const at = number === undefined ? place : `${place || 'playbook'} (line ${number})`
    return `  ${[[at, what].filter(Boolean).join(': '), hint].filter(Boolean).join('. ')}`
  })
  const left = mistakes.length - told.length
  return new RekeyError(
    [`${file} has ${mistakes.length} mistakes:`, ...told, ...(left > 0 ? [`  and ${left} more`] : [])].join('\n'),
    { code },
  )
}

function unknownOption(key: string, what: string, known: readonly string[]): Omit<Mistake, keyof Place> {
  const snake = key.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`)
  const camel = key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
  const near = didYouMean(camel, known)
  return {
    what: `${what} has no option '${key}'${near === undefined ? '' : `; did you mean '${near}'?`}`,
    hint: near === undefined ? (elsewhere[snake] ?? `Its options are: ${known.join(', ')}.`) : undefined,
  }
}

function titled(item: unknown): string {
  const title = isObject(item) ? item['title'] : undefined
  return isText(title) ? ` '${title.slice(0, longestTitle)}'` : ''
}

/**
 * The report that a playbook's code returned, as events carry it. Throws `RekeyError` with what is no report in it. What is no text in a row is told as
 * code.
 */
export function reportSections(returned: unknown): ReportSection[] {
  if (returned === undefined || returned === null) return []
  if (!Array.isArray(returned)) throw notReport('it must be a list of sections', returned)
  return returned.map((section: unknown, index) => {
    const place = `section ${index + 1}`
    if (typeof section !== 'object' || section === null) throw notReport(`${place} must have a title and rows`, section)
    const { title, rows, curves, metrics } = section as Record<'title' | 'rows' | 'curves' | 'metrics', unknown>
    if (typeof title !== 'string') throw notReport(`the title of ${place} must be a text`, title)
    if (!Array.isArray(rows)) throw notReport(`the rows of ${place} '${title}' must be a list`, rows)
    if (curves !== undefined && !(Array.isArray(curves) && curves.every(isCurve)))
      throw notReport(
        `the curves of ${place} '${title}' must be a list of curves, of ${mostPieces} pieces and gaps at most, as many in each list`,
        curves,
      )
    if (metrics !== undefined && !(Array.isArray(metrics) && metrics.every(isMetric)))
      throw notReport(
        `the metrics of ${place} '${title}' must be a list of metrics, each with the name, help, value and labels that Prometheus takes`,
        metrics,
      )
    return {
      title,
      ...(metrics !== undefined && { metrics: metrics as ReportMetric[] }),
      ...(curves !== undefined && { curves: curves as ReportCurve[] }),
      rows: rows.map((row: unknown) => {
        if (Array.isArray(row) && row.length === 2) return [textOf(row[0]), textOf(row[1])] as const
        throw notReport(`each row of ${place} '${title}' must be a label and a value`, row)
      }),
    }
  })
}

/** Pieces, and gaps, of a curve of a report: more than anybody sees on a page. */
export const mostPieces = 5_000

const isNumbers = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every(one => Number.isFinite(one))

function isCurve(value: unknown): boolean {
  if (!isObject(value)) return false
  const { label, from, every, asked, failed, slowest, gaps } = value
  const isGap = (one: unknown) =>
    isObject(one) && isNumbers([one['from'], one['to'], one['failed']]) && isText(one['reason'])
  return (
    isText(label) &&
    isNumbers([from, every]) &&
    Number(every) > 0 &&
    [asked, failed, slowest ?? asked].every(one => isNumbers(one) && one.length === (asked as unknown[]).length) &&
    (asked as unknown[]).length <= mostPieces &&
    Array.isArray(gaps) &&
    gaps.length <= mostPieces &&
    gaps.every(isGap)
  )
}

/** Labels that each metric has, by whoever writes it. */
const ownLabels = ['playbook', 'inventory']

function isMetric(value: unknown): boolean {
  if (!isObject(value)) return false
  const { name, help, value: figure, labels = {} } = value
  return (
    isText(name) &&
    /^[a-zA-Z_:][\w:]*$/.test(name) &&
    isText(help) &&
    Number.isFinite(figure) &&
    isObject(labels) &&
    Object.entries(labels).every(
      ([label, text]) => /^[a-zA-Z_]\w*$/.test(label) && typeof text === 'string' && !ownLabels.includes(label),
    )
  )
}

const textOf = (value: unknown) => (typeof value === 'string' ? value : shown(value))

function notReport(what: string, value: unknown): RekeyError {
  return new RekeyError(`${what}, not ${shown(value)}`, { code: 'playbook.report' })
}
