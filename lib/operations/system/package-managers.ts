// How apt and dnf are asked what would be done, how they do it, and how it is undone. Scripts for a shell whose LC_ALL is C.
import { quote } from '../../connection/shell.ts'

export type Manager = 'apt' | 'dnf'

/** A package that comes, goes, or gets another version. */
export interface Change {
  readonly name: string
  readonly from?: string
  /** Missing where it goes; empty where only the host's program knows. */
  readonly to?: string
}

/** What is asked for. */
export interface Request {
  readonly names: readonly string[]
  readonly state: 'present' | 'absent' | 'latest'
  readonly purge: boolean
}

interface Managed {
  /** Prints the age of its lists in seconds, `due NAME` for each that is not as it shall be, and what would come and go. */
  look(request: Request): string
  /** What would come and go, by what `look` printed. */
  changes(lines: readonly string[], request: Request): Change[]
  readonly update: string
  change(request: Request): string
  /** What takes changes back. Fails before anything is done where something else would go with what came: somebody has come to need it. */
  back(changes: readonly Change[]): string
}

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

/** The database of rpm has what is there; a name may be of what a package provides. */
const dnfDue = ({ names, state }: Request) => `for n in ${quoted(names)}; do
  i=$(rpm -q --qf '%{NAME} %{VERSION}-%{RELEASE}\\n' "$n" 2>/dev/null | sed -n 1p) || i=
  case $i in *' is not installed'*) i= ;; esac
  [ -n "$i" ] || i=$(rpm -q --whatprovides --qf '%{NAME} %{VERSION}-%{RELEASE}\\n' "$n" 2>/dev/null | sed -n 1p)
  case $i in 'no package provides'*|*' is not installed'*) i= ;; esac
  ${
    state === 'absent'
      ? '[ -n "$i" ] || continue'
      : state === 'latest'
        ? '[ -n "$i" ] && { dnf -q check-update "$n" >/dev/null 2>&1; [ $? != 100 ]; } && continue'
        : '[ -n "$i" ] && continue'
  }
  # What is asked for with a version may be there with another one.
  for b in "\${n%-*}" "\${n%-*-*}"; do
    case $i\${n#"$b"-} in [0-9]*) ;; *) continue ;; esac
    i=$(rpm -q --qf '%{NAME} %{VERSION}-%{RELEASE}\\n' "$b" 2>/dev/null | grep -v ' is not installed$' | sed -n 1p)
  done
  echo "due $n"; echo "was $n $i"
done`

const refusal = 'what came is not taken back, as more would go that others have installed since'

/** By rpm's own word on what needs them; dnf would take that along. Names may be of what a package provides. */
const removeUnneeded = (names: readonly string[]) => `set --; for n in ${quoted(names)}; do
  i=$(rpm -q --qf '%{NAME} \\n' "$n" 2>/dev/null) || i=$(rpm -q --whatprovides --qf '%{NAME} \\n' "$n" 2>/dev/null) || continue
  set -- "$@" "\${i%% *}"
done
[ $# = 0 ] || { o=$(rpm -e --test "$@" 2>&1) || { echo "E: ${refusal}:" $(printf '%s\\n' "$o" | sed -n 's/.* is needed by (installed) //p' | sort -u) >&2; exit 1; }
dnf -y remove "$@"; }`

export const managers: Readonly<Record<Manager, Managed>> = {
  apt: {
    look: request => `set --
t=$(stat -c %Y /var/lib/apt/periodic/update-success-stamp /var/lib/apt/lists 2>/dev/null | sort -n | tail -n 1)
[ -n "$t" ] && echo $(($(date +%s) - t)) || echo
${request.names.length === 0 ? ':' : aptDue(request)}
[ $# = 0 ] || apt-get -s -q -y ${aptWords(request)} -- "$@" 2>&1 | grep -E '^(Inst|Remv|Purg|E:) ' || :`,
    changes: lines =>
      lines.flatMap(line => {
        const [, verb, name, from, to] =
          /^(Inst|Remv|Purg) (\S+)(?: \[([^\]]*)\])?(?: \((\S+)[^)]*\))?/.exec(line) ?? []
        if (name === undefined) return []
        const before = from === undefined ? {} : { from }
        return [verb === 'Inst' && to !== undefined ? { name, ...before, to } : { name, ...before }]
      }),
    update: `${apt} update`,
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
${request.names.length === 0 ? ':' : dnfDue(request)}`,
    changes: (lines, { state }) =>
      lines.flatMap(line => {
        const [, asked, name, from] = /^was (\S+) ?(?:(\S+) (\S+))?$/.exec(line) ?? []
        if (asked === undefined) return []
        const before = from === undefined ? {} : { from }
        return [state === 'absent' ? { name: name ?? asked, ...before } : { name: name ?? asked, ...before, to: '' }]
      }),
    update: 'dnf -q -y makecache --refresh',
    change: ({ names, state }) =>
      `dnf -y ${state === 'absent' ? 'remove' : state === 'latest' ? 'install --best' : 'install'} ${quoted(names)}`,
    back: changes => {
      const came = changes.filter(({ from }) => from === undefined).map(({ name }) => name)
      const others = changes.flatMap(({ name, from }) => (from === undefined ? [] : [`${name}-${from}`]))
      const group = came.find(name => name.startsWith('@'))
      if (group !== undefined) return `echo "E: nobody knows what came with ${group}: it is not removed" >&2; exit 1`
      return [
        'set -e',
        ...(came.length > 0 ? [removeUnneeded(came)] : []),
        ...(others.length > 0 ? [`dnf -y install ${quoted(others)} || dnf -y downgrade ${quoted(others)}`] : []),
      ].join('\n')
    },
  },
}
