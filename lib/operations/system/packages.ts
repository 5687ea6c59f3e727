// `package`: what a host has installed, by its own apt or dnf. What would come and go is asked of them before anything is done.
import { raw } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { type HostSession, unchanged } from '../../playbook/model.ts'
import { notedList } from '../notes.ts'
import { operation } from '../operation.ts'
import { checkedOptions, type Kinds, oneOf, truth, wholeNumber, wrongOptions } from '../options.ts'
import { type Answer, type Change, errorIn, type Manager, managers, type Request } from './package-managers.ts'

/** Packages, as they shall be. */
export interface PackageOptions {
  /** One or several; with a version as the host's own program has it: `nginx=1.22.1-9` for apt, `nginx-1.20.1` for dnf, which has groups as well: `@web`. */
  readonly name?: string | readonly string[]
  /** `present` where nothing is said: a version that is there is left, whichever. */
  readonly state?: 'present' | 'absent' | 'latest'
  /** Has the lists of packages read anew, where something is to be installed. */
  readonly updateCache?: boolean
  /** Seconds for which they are new enough. apt only; dnf knows that itself. */
  readonly cacheValidTime?: number
  /** With `absent`: configuration goes, too. apt only. */
  readonly purge?: boolean
  /** Whose program it is; the one that the host has where nothing is said. */
  readonly use?: 'auto' | 'apt' | 'dnf'
}

/** What a host has, and what would be done. */
interface Found extends Answer {
  readonly manager: Manager
  /** The lists are older than they may be. */
  readonly isStale: boolean
}

interface Kept {
  readonly manager: Manager
  readonly changes: readonly Change[]
}

/** Makes packages of hosts be as they shall be. Registers what has come and gone. */
export const packages = operation<PackageOptions, readonly Change[]>({
  name: 'packages',
  check: given => checkTogether(checkedOptions<PackageOptions>('packages', given, kinds)),
  look: async (context, wanted) => {
    let found = await lookAll(context, wanted)
    let updated = false
    const update = async (): Promise<void> => {
      if (updated || !found.some(({ isStale }) => isStale)) return
      updated = true
      const { manager } = found.find(({ isStale }) => isStale)!
      await perform(context, managers[manager].update)
      found = (await lookAll(context, wanted)).map(one => ({ ...one, isStale: false }))
    }
    for (const { unknown, isStale } of found) if (unknown !== undefined && !isStale) throw failed(context, unknown)
    return {
      would: found.flatMap(linesOf),
      result: [],
      // The lists first: they say what comes.
      keep: async (): Promise<readonly Kept[]> => {
        await update()
        return found.map(({ manager, changes }) => ({ manager, changes }))
      },
      apply: async () => {
        await update()
        for (const { unknown } of found) if (unknown !== undefined) throw failed(context, unknown)
        const due = found.map((one, index) => [one, wanted[index]!] as const).filter(([{ due }]) => due.length > 0)
        for (const [{ manager, due: names }, options] of due) {
          await perform(context, managers[manager].change(requestOf(options, names)))
        }
        if (due.length > 0) await prove(context, wanted)
        const changes = found.flatMap(({ changes }) => changes)
        const isList = found.some(({ manager }, index) => {
          return managers[manager].isUpdateChange && wanted[index]!.name === undefined
        })
        return due.length > 0 || (updated && isList) ? changes : (unchanged(changes) as never)
      },
    }
  },
  undo: async (context, kept: readonly Kept[]) => {
    for (const { manager, changes } of kept.toReversed()) {
      if (changes.length > 0) await perform(context, managers[manager].back(changes))
    }
  },
  kept: notedList<Kept>('packages', isKept),
})

const nameKind = {
  words: 'a name of a package, or a list of them',
  fits: (value: unknown) => [value].flat().length > 0 && [value].flat().every(isName),
}

function isName(value: unknown): boolean {
  return typeof value === 'string' && /^[A-Za-z0-9@_][\w.+:~=*^@-]*$/.test(value)
}

function isChange(one: Partial<Record<keyof Change, unknown>> | null): boolean {
  return (
    typeof one === 'object' &&
    one !== null &&
    isName(one.name) &&
    [one.from, one.to].every(
      version => version === undefined || (typeof version === 'string' && /^[\w.+:~^-]+$/.test(version)),
    )
  )
}

function isKept(one: Partial<Record<keyof Kept, unknown>> | null): boolean {
  return (
    typeof one === 'object' &&
    one !== null &&
    (one.manager === 'apt' || one.manager === 'dnf') &&
    Array.isArray(one.changes) &&
    one.changes.every(isChange)
  )
}

const kinds: Kinds<PackageOptions> = {
  name: nameKind,
  state: oneOf('present', 'absent', 'latest'),
  updateCache: truth,
  cacheValidTime: wholeNumber,
  purge: truth,
  use: oneOf('auto', 'apt', 'dnf'),
}

function checkTogether(options: PackageOptions): PackageOptions {
  const { name, state, updateCache, cacheValidTime, purge } = options
  if (name === undefined && !updateCache && cacheValidTime === undefined) {
    throw wrongOptions('packages(): one of name and updateCache must be given')
  }
  if (purge && state !== 'absent') throw wrongOptions('packages(): purge goes with state absent only')
  if (state === 'latest' && [name].flat().some(one => one?.includes('='))) {
    throw wrongOptions('packages(): a version is asked for, and the latest one')
  }
  return options
}

const requestOf = ({ state = 'present', purge = false }: PackageOptions, names: readonly string[]): Request => ({
  names,
  state,
  purge,
})

function linesOf({ due, changes, isStale, unknown }: Found): string[] {
  const lines = changes.map(({ name, from, to }) => {
    if (to === undefined) return `remove ${name} ${from}`
    return from === undefined ? `install ${name} ${to}` : `change ${name} from ${from} to ${to}`
  })
  const all = lines.length > 0 || unknown === undefined ? lines : due.map(name => `install ${name}`)
  return isStale ? ['read the lists of packages anew', ...all] : all
}

async function lookAll(context: HostSession, wanted: readonly PackageOptions[]): Promise<Found[]> {
  const found: Found[] = []
  for (const options of wanted) found.push(await look(context, options))
  return found
}

/** One round trip. */
async function look(context: HostSession, options: PackageOptions): Promise<Found> {
  const { name = [], state = 'present', use = 'auto', updateCache, cacheValidTime } = options
  const request = requestOf(options, [name].flat())
  const script = `LC_ALL=C; export LC_ALL; m=${use}
if [ $m = auto ]; then if command -v apt-get >/dev/null; then m=apt; elif command -v dnf >/dev/null; then m=dnf; else echo 'it has neither apt nor dnf' >&2; exit 1; fi; fi
echo $m
case $m in apt) ${managers.apt.look(request)} ;; dnf) ${managers.dnf.look(request)} ;; esac`
  const { exitCode, stdout, stderr } = await context.$({ quiet: true, nothrow: true })`${raw(script)}`
  if (exitCode !== 0) throw failed(context, stderr.trim() || 'it says nothing')
  const [manager = 'apt', age = '', ...lines] = stdout.split('\n') as [Manager, string, ...string[]]
  const answer = managers[manager].answer(lines)
  const mayUpdate = updateCache === true || cacheValidTime !== undefined
  const isOld = cacheValidTime === undefined || age === '' || Number(age) > cacheValidTime
  // What is there needs no list, and what goes neither.
  const needsLists = name.length === 0 || state === 'latest' || (state === 'present' && answer.isOfLists)
  return { manager, ...answer, isStale: mayUpdate && isOld && needsLists }
}

async function perform(context: HostSession, script: string): Promise<void> {
  const { exitCode, stdout, stderr } = await context.$({ nothrow: true })`${raw(`LC_ALL=C; export LC_ALL\n${script}`)}`
  if (exitCode === 0) return
  throw failed(context, errorIn(`${stderr}\n${stdout}`) ?? (stderr.trim() || `exit status ${exitCode}`))
}

/** What was done is so. */
async function prove(context: HostSession, wanted: readonly PackageOptions[]): Promise<void> {
  for (const { due, manager } of await lookAll(context, wanted)) {
    if (due.length > 0) throw failed(context, `${due.join(', ')} is not as it shall be after ${manager} was done`)
  }
}

function failed({ host }: HostSession, why: string): HostFailedError {
  return new HostFailedError(`${host.name}: packages: ${why}`, { code: 'packages.failed', host: host.name })
}
