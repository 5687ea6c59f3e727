// `authorizedKey`: who may log in to an account by which keys. What else is in the file stays as it is.
import { operation } from '../operation.ts'
import { absolutePath, checkedOptions, type Kinds, oneOf, text, truth, wrongOptions } from '../options.ts'
import { accountName, isManaged, type Kept, keptKeys, lookAt, takeBack, write } from './authorized-key-file.ts'

/** Keys of an account, as they shall be. */
export interface AuthorizedKeyOptions {
  /** The account whose file it is. */
  readonly user: string
  /** A key as a `.pub` file has it, or several, a line each; options before it are taken, too. */
  readonly key: string
  readonly state?: 'present' | 'absent'
  /** Where the file is: `.ssh/authorized_keys` in the home where nothing is said. */
  readonly path?: string
  /** What stands before the keys, such as `from="10.0.0.0/8",no-pty`, instead of what they bring. */
  readonly keyOptions?: string
  /** What stands behind the keys, instead of what they bring. */
  readonly comment?: string
  /** No other key is left in the file, and nothing else. */
  readonly exclusive?: boolean
  /**
   * Whether the file's folder is made for the account, and is 0700: it is where neither this nor `path` is said. A folder that is there must be
   * the account's own: nobody's folder is given away.
   */
  readonly manageDir?: boolean
  /**
   * Where the file is a link that only root, or who runs this, can have laid, what that leads to is changed, and stays whose it is. Any other
   * link is refused.
   */
  readonly follow?: boolean
}

/** A line of the file. */
interface Line {
  readonly text: string
  /** Missing where it is no key. */
  readonly key?: Key
}

interface Key {
  readonly options: string
  readonly type: string
  /** The key itself, which tells it from others. */
  readonly blob: string
  readonly comment: string
}

/** Makes the keys of accounts be as they shall be. */
export const authorizedKey = operation<AuthorizedKeyOptions, undefined>({
  name: 'authorizedKey',
  check: given => checkTogether(checkedOptions<AuthorizedKeyOptions>('authorizedKey', given, kinds)),
  look: async (context, wanted) => {
    // Several keys of one account are one file, which each finds as those before have left it.
    const found = await lookAt(context, wanted)
    const files = new Map<string, Kept>()
    const would: string[] = []
    for (const [index, options] of wanted.entries()) {
      const one = found[index]!
      const before = files.get(one.path)?.after ?? one.content ?? ''
      const after = contentFor(options, before)
      if (after === before) continue
      const { user, path, manageDir } = options
      const managed = isManaged(context, one, manageDir, path !== undefined)
      files.set(one.path, { ...one, ...files.get(one.path), user, after, managed })
      would.push(`${options.state === 'absent' ? 'take keys of' : 'let keys in to'} ${user}: write ${one.path}`)
    }
    const due = [...files.values()]
    return {
      would,
      result: undefined,
      announce: async () => {
        for (const { path, after } of due) {
          await context.files.announce(path, () => ({ after: Buffer.from(after, 'latin1'), secret: false }))
        }
      },
      keep: () => due,
      apply: async () => {
        for (const one of due) await write(context, one)
        return undefined
      },
    }
  },
  undo: async (session, kept: readonly Kept[]) => {
    for (const one of kept) await takeBack(session, one)
  },
  kept: keptKeys,
})

const kinds: Kinds<AuthorizedKeyOptions> = {
  user: {
    words: 'the name of one user',
    fits: value => text.fits(value) && accountName.test(value as string),
    required: true,
  },
  key: { words: 'keys as .pub files have them, a line each', fits: text.fits, required: true },
  state: oneOf('present', 'absent'),
  path: { ...absolutePath, fits: value => absolutePath.fits(value) && !/\/\.{0,2}$/.test(value as string) },
  keyOptions: oneLine(),
  comment: oneLine(),
  exclusive: truth,
  manageDir: truth,
  follow: truth,
}

function oneLine() {
  return { words: 'a text of one line', fits: (value: unknown) => typeof value === 'string' && !/[\n\r\0]/.test(value) }
}

function checkTogether(options: AuthorizedKeyOptions): AuthorizedKeyOptions {
  const { key, exclusive, state } = options
  if (/^https?:/.test(key)) {
    throw wrongOptions(
      'authorizedKey({ key }): keys are not fetched from an address',
      'Read them in the playbook, and look at them.',
    )
  }
  const bad = linesOf(key).find(({ text, key: found }) => text.trim() !== '' && !text.startsWith('#') && !found)
  if (bad) throw wrongOptions(`authorizedKey({ key }): this is no public key: ${bad.text.slice(0, 60)}`)
  if (!linesOf(key).some(({ key: found }) => found)) throw wrongOptions('authorizedKey({ key }): there is no key in it')
  if (exclusive && state === 'absent') throw wrongOptions('authorizedKey(): exclusive goes with state present only')
  return options
}

const keyTypes = new Set([
  'ssh-ed25519',
  'ssh-rsa',
  'ssh-dss',
  ...['256', '384', '521'].map(size => `ecdsa-sha2-nistp${size}`),
  'sk-ssh-ed25519@openssh.com',
  'sk-ecdsa-sha2-nistp256@openssh.com',
])

/** The lines of a file, without their ends. */
function linesOf(content: string): Line[] {
  const lines = content.split(/\r?\n/)
  if (lines.at(-1) === '') lines.pop()
  return lines.map(text => ({ text, key: keyIn(text) }))
}

/** Options may have blanks within quotes, and what looks like a type, too. */
function keyIn(line: string): Key | undefined {
  if (line.trimStart().startsWith('#')) return undefined
  const words = partsOf(line, character => /\s/.test(character))
  const at = words.findIndex(({ text }) => keyTypes.has(text))
  const [type, blob] = [words[at]?.text, words[at + 1]?.text]
  if (at === -1 || !type || !blob || !/^[A-Za-z0-9+/]+=*$/.test(blob)) return undefined
  const [start, end] = [words[at]!.index, words[at + 1]!.index + blob.length]
  return { options: line.slice(0, start).trim(), type, blob, comment: line.slice(end).trim() }
}

/** Options in any order are the same. */
const optionsIn = (options: string) =>
  partsOf(options, character => character === ',')
    .map(({ text }) => text)
    .sort()
    .join(',')

/** What stands between separators, which count for nothing within quotes. */
function partsOf(line: string, separates: (character: string) => boolean): { text: string; index: number }[] {
  const parts: { text: string; index: number }[] = []
  let [start, isQuoted] = [0, false]
  for (let index = 0; index <= line.length; index++) {
    const character = line.charAt(index)
    if (index === line.length || (!isQuoted && separates(character))) {
      if (index > start) parts.push({ text: line.slice(start, index), index: start })
      start = index + 1
    } else if (character === '"') isQuoted = !isQuoted
    else if (character === '\\' && isQuoted && index + 1 < line.length) index++
  }
  return parts
}

function isSame(one: Key, other: Key): boolean {
  return one.type === other.type && one.comment === other.comment && optionsIn(one.options) === optionsIn(other.options)
}

/** What the file shall hold: a key that is there otherwise goes, and comes to the end as it shall be. */
function contentFor({ key, state, keyOptions, comment, exclusive }: AuthorizedKeyOptions, before: string): string {
  const asked = linesOf(key).flatMap(({ key: one }) =>
    one ? { ...one, options: keyOptions ?? one.options, comment: comment ?? one.comment } : [],
  )
  let lines = linesOf(before)
  let isChanged = false
  for (const one of asked) {
    const known = lines.filter(line => line.key?.blob === one.blob)
    if (state === 'absent' ? known.length === 0 : known.length > 0 && isSame(known.at(-1)!.key!, one)) continue
    isChanged = true
    lines = lines.filter(line => line.key?.blob !== one.blob)
    if (state === 'absent') continue
    lines.push({ text: [one.options, one.type, one.blob, one.comment].filter(Boolean).join(' '), key: one })
  }
  if (exclusive) {
    const kept = lines.filter(line => asked.some(({ blob }) => blob === line.key?.blob))
    isChanged ||= kept.length < lines.length
    lines = kept
  }
  return isChanged ? lines.map(({ text }) => `${text}\n`).join('') : before
}
