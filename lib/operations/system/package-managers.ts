// How apt and dnf are asked what would be done, how they do it, and how it is undone. Scripts for a shell whose LC_ALL is C.
import { quote } from '../../connection/shell.ts'

export type Manager = 'apt' | 'dnf'

/** A package that comes, goes, or gets another version. */
export interface Change {
  readonly name: string
  readonly from?: string
  /** Missing where it goes. */
  readonly to?: string
}

/** What a program says of what is asked for. */
export interface Answer {
  /** Of the names, those that are not as they shall be, as they were asked for. */
  readonly due: readonly string[]
  /** What comes and goes with them. */
  readonly changes: readonly Change[]
  /** Why that can't be told from the lists that it has. */
  readonly unknown?: string
  /** Other lists might say something else. */
  readonly isOfLists: boolean
}

/** What is asked for. */
export interface Request {
  readonly names: readonly string[]
  readonly state: 'present' | 'absent' | 'latest'
  readonly purge: boolean
}

interface Managed {
  /** Prints the age of its lists in seconds, `due NAME` for each that may not be as it shall be, and what would come and go. */
  look(request: Request): string
  /** What it says, by what `look` printed after the age. */
  answer(lines: readonly string[]): Answer
  readonly update: string
  /** Lists that were read anew are a change. */
  readonly isUpdateChange: boolean
  change(request: Request): string
  /** What takes changes back. Fails before anything is done where something else would go with what came: somebody has come to need it. */
  back(changes: readonly Change[]): string
}

const dueIn = (lines: readonly string[]) => lines.filter(line => line.startsWith('due ')).map(line => line.slice(4))

const quoted = (names: readonly string[]) => names.map(quote).join(' ')

/** Configuration that somebody has changed stays, and a lock is waited for, for a minute. */
const apt =
  'DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=60 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold'
const aptWords = ({ state, purge }: Request) =>
  state === 'absent' ? `remove${purge ? ' --purge' : ''}` : 'install --allow-downgrades'

/** By the state that dpkg has of each. A version may have a star. */
const aptDue = ({ names, state, purge }: Request) => `for n in ${quoted(names)}; do
  b=\${n%%=*}; v=; case $n in *=*) v=\${n#*=} ;; esac
  i=$(dpkg-query -W -f '\${db:Status-Status} \${Version}\\n' "$b" 2>/dev/null | sed -n '1p'); s=\${i%% *}; i=\${i#* }
  ${
    state === 'absent'
      ? `case $s in installed) ;; ${purge ? 'config-files) ;; ' : ''}*) continue ;; esac`
      : state === 'latest'
        ? 'c=$(apt-cache policy "$b" 2>/dev/null | sed -n "s/^ *Candidate: //p" | sed -n 1p); [ "$s" = installed ] && { [ "$i" = "$c" ] || [ -z "$c" ]; } && continue'
        : 'if [ "$s" = installed ]; then [ -z "$v" ] && continue; case $i in $v) continue ;; esac; fi'
  }
  echo "due $n"; set -- "$@" "$n"
done`

/** dnf would otherwise have what came with a package go with it. */
const removal = '--setopt=clean_requirements_on_remove=False remove'
const dnfWords = ({ state }: Request) =>
  state === 'absent' ? removal : state === 'latest' ? 'install --best' : 'install'

/**
 * The database of rpm says what is there; a name may be of what a package provides. Of groups, names with a star and the latest only dnf knows. What
 * it would do it says as a table, and rpm what is there now of the packages in it.
 */
const dnfLook = (request: Request) => `set --; for n in ${quoted(request.names)}; do
  ${
    request.state === 'latest'
      ? ':'
      : `case $n in @*|*'*'*) ;; *) rpm -q "$n" >/dev/null 2>&1 || rpm -q --whatprovides "$n" >/dev/null 2>&1 ${
          request.state === 'absent' ? '|| continue' : '&& continue'
        } ;; esac`
  }
  echo "due $n"; set -- "$@" "$n"
done
[ $# = 0 ] || { { o=$(dnf --assumeno ${dnfWords(request)} "$@" 2>&3); s=$?; } 3>&1; printf '%s\\n' "$o"; echo; echo "status $s"
rpm -q --qf 'is %{NAME} %{ARCH} %{VERSION}-%{RELEASE}\\n' $(printf '%s\\n' "$o" | sed -n 's/^ \\([^ ][^ ]*\\).*/\\1/p') 2>/dev/null || :; }`

/** What of dnf's table is about packages that come, go or get another version. */
const heading =
  /^(Installing|Upgrading|Downgrading|Removing)(?: dependencies| weak dependencies| group(?:\/module)? packages| dependent packages| unused dependencies)?:$/

/** A row of dnf's table, under which heading, by its words: name, architecture, version; or `replacing` and what goes for it. */
interface Row {
  readonly verb: string
  readonly words: string[]
}

/** A row begins with one blank; what it has no room for stands on the lines after it. */
function rowsOf(lines: readonly string[]): Row[] {
  const rows: Row[] = []
  let verb: string | undefined
  for (const line of lines) {
    const words = line.trim().split(/\s+/)
    if (!line.startsWith(' ')) verb = heading.exec(line)?.[1]
    else if (verb !== undefined && (/^ \S/.test(line) || words[0] === 'replacing')) rows.push({ verb, words })
    else if (verb !== undefined) rows.at(-1)?.words.push(...words)
  }
  return rows
}

/** A version as it stands behind a name: without its epoch, which not every rpm takes there, and with the architecture. */
const versionOf = (version: string, architecture: string) => `${version.replace(/^\d+:/, '')}.${architecture}`

function dnfChanges(lines: readonly string[]): Change[] {
  const installed = new Map(
    lines.flatMap(line => {
      const [, name, architecture, version] = /^is (\S+) (\S+) (\S+)$/.exec(line) ?? []
      if (name === undefined) return []
      const of = versionOf(version!, architecture!)
      return [[name, of] as const, [`${name}.${architecture}`, of] as const]
    }),
  )
  const changes = rowsOf(lines).map(({ verb, words }): Change => {
    if (words[0] === 'replacing') return replaced(words)
    const [name = '', architecture = '', version = ''] = words
    const of = versionOf(version, architecture)
    if (verb === 'Removing') return { name, from: of }
    // Of some, such as kernels, several versions are there side by side: of those none goes.
    if (verb === 'Installing') return { name, to: of }
    const from = installed.get(`${name}.${architecture}`) ?? installed.get(name)
    return { name, ...(from === undefined ? {} : { from }), to: of }
  })
  const stays = new Set(changes.flatMap(({ name, to }) => (to === undefined ? [] : [name])))
  return changes.filter(({ name, to }) => to !== undefined || !stays.has(name))
}

/** dnf 5 has name and architecture in columns, and such a row for each that gets another version, too. */
function replaced([, name = '', second = '', third]: readonly string[]): Change {
  if (third !== undefined) return { name, from: versionOf(third, second) }
  const end = name.lastIndexOf('.')
  return { name: name.slice(0, end), from: versionOf(second, name.slice(end + 1)) }
}

/** What apt or dnf says that is wrong, with the reasons on the lines after it. */
export function errorIn(output: string): string | undefined {
  const lines = output.split('\n')
  const first = lines.findIndex(line => /^(E: |Error)/.test(line))
  if (first === -1) return undefined
  const reasons = lines.slice(first + 1)
  const end = reasons.findIndex(line => !line.startsWith(' '))
  const said = [lines[first]!, ...reasons.slice(0, end === -1 ? undefined : end)].map(line => line.trim()).join(' ')
  // What it has found nothing of it says before.
  const missing = lines.filter(line => / is not available\.$/.test(line))
  return /^Error: Nothing to do\.$/.test(said) && missing.length > 0 ? missing.join(' ') : said
}

const refusal = 'what came is not taken back, as more would go that others have installed since'

/** Gives packages the versions that they had. Those that have taken the place of others would do so again. */
const putBack = (words: string) =>
  `dnf -y --setopt=obsoletes=False install ${words} || dnf -y --setopt=obsoletes=False downgrade ${words}`

/**
 * What came goes, and the others get back the version that they had: the first first where nothing needs it, and where that is needed by what gets
 * another version, after that. By rpm's own word; dnf would take along whatever needs it.
 */
function dnfBack(changes: readonly Change[]): string {
  const came = changes.flatMap(({ name, from, to }) => (from === undefined ? [`${name}-${to}`] : []))
  const others = changes.filter(({ from }) => from !== undefined)
  const words = quoted(others.map(({ name, from }) => `${name}-${from}`))
  return `set -e
set --; for n in ${quoted(came)}; do ! rpm -q "$n" >/dev/null 2>&1 || set -- "$@" "$n"; done
m=; l=
[ $# = 0 ] || for n in $(rpm -e --test --allmatches "$@" 2>&1 | sed -n 's/.* is needed by (installed) //p' | sort -u); do
  case \${n%-*-*} in ${others.length > 0 ? `${others.map(({ name }) => quote(name)).join(' | ')}) l=yes ;; ` : ''}*) m="$m $n" ;; esac
done
[ -z "$m" ] || { echo "E: ${refusal}:$m" >&2; exit 1; }
[ $# = 0 ] || [ "$l" ] || dnf -y ${removal} "$@"
${others.length > 0 ? putBack(words) : ':'}
[ $# = 0 ] || [ -z "$l" ] || dnf -y ${removal} "$@"`
}

export const managers: Readonly<Record<Manager, Managed>> = {
  apt: {
    look: request => `set --
t=$(stat -c %Y /var/lib/apt/periodic/update-success-stamp /var/lib/apt/lists 2>/dev/null | sort -n | tail -n 1)
[ -n "$t" ] && echo $(($(date +%s) - t)) || echo
${request.names.length === 0 ? ':' : aptDue(request)}
[ $# = 0 ] || apt-get -s -q -y ${aptWords(request)} -- "$@" 2>&1 | grep -E '^(Inst|Remv|Purg|E:) ' || :`,
    answer: lines => {
      const due = dueIn(lines)
      const unknown = lines.find(line => line.startsWith('E: '))?.slice(3)
      const changes = lines.flatMap((line): Change[] => {
        const [, verb, name, from, to] =
          /^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+)[^)]*\))?/.exec(line) ?? []
        if (name === undefined) return []
        const before = from === undefined ? {} : { from }
        return [verb === 'Inst' && to !== undefined ? { name, ...before, to } : { name, ...before }]
      })
      return { due, changes, isOfLists: due.length > 0, ...(unknown === undefined ? {} : { unknown }) }
    },
    update: `${apt} update`,
    isUpdateChange: true,
    change: request => `${apt} ${aptWords(request)} -- ${quoted(request.names)}`,
    // A name with a minus behind it goes; its configuration, and its data, stay: they may be somebody's by now.
    back: changes => {
      const words = quoted(changes.map(({ name, from }) => (from === undefined ? `${name}-` : `${name}=${from}`)))
      const came = changes.flatMap(({ name, from }) => (from === undefined ? [name] : []))
      return `o=$(apt-get -s -q -y install --allow-downgrades -- ${words} 2>&1) || { printf '%s\\n' "$o" >&2; exit 1; }
m=; for n in $(printf '%s\\n' "$o" | sed -nE 's/^(Remv|Purg) ([^ ]+).*/\\2/p'); do
  k=; for c in ${quoted(came)}; do [ "$n" != "$c" ] || k=yes; done; [ "$k" ] || m="$m $n"
done
[ -z "$m" ] || { echo "E: ${refusal}:$m" >&2; exit 1; }
${apt} install --allow-downgrades -- ${words}`
    },
  },
  dnf: {
    look: request => `echo
${request.names.length === 0 ? ':' : dnfLook(request)}`,
    answer: lines => {
      const asked = dueIn(lines)
      const changes = dnfChanges(lines)
      // Where it would do something it is told not to. A group that is marked and no more has nothing that comes or goes.
      const isKnown = asked.length === 0 || lines.some(line => /^(status 0$|Operation aborted)/.test(line))
      const said = lines.filter(line => !/^(due|status|is) /.test(line)).join('\n')
      const unknown = isKnown ? undefined : (errorIn(said) ?? said.trim())
      const due = changes.length > 0 || unknown !== undefined ? asked : []
      return {
        due,
        changes,
        isOfLists: asked.length > 0,
        ...(unknown === undefined ? {} : { unknown: unknown.replace(/^Error: /, '') }),
      }
    },
    update: 'dnf -q -y makecache --refresh',
    // It reads them when it needs them.
    isUpdateChange: false,
    change: request => `dnf -y ${dnfWords(request)} ${quoted(request.names)}`,
    back: dnfBack,
  },
}
