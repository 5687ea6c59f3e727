// The word that a command leaves of itself on its host, for a connection that drops while it runs: a file with the process id
// of the shell that waits for it, when that was started and, once it has ended, its exit status. docs/decisions/0007-markers.md says why so.
import { quote } from '../shell.ts'

/** What a host says became of a command. */
export type Found =
  /** It had not begun, and never will. */
  | { readonly is: 'never' }
  | { readonly is: 'running'; readonly pid: number }
  | { readonly is: 'ended'; readonly status: number }
  /** It was begun, and whatever waited for it is gone: killed, or the host was restarted. */
  | { readonly is: 'gone' }
  /** The host has no answer: it could not write one down. */
  | { readonly is: 'unsure' }

/**
 * The folder of a run's markers on a host, as a word for its shell. Of the user who logs in, whoever a command becomes: it is that
 * user's shell that waits.
 * @param directory where rekey keeps what it knows on the host, when the inventory says so
 */
export function markerFolder(user: string, run: string, directory?: string): string {
  const place = directory ?? (user === 'root' ? '/var/lib/rekey' : undefined)
  return place === undefined ? `"$HOME"/.local/state/rekey/commands/${quote(run)}` : quote(`${place}/commands/${run}`)
}

/** Says in which boot of the machine the folder was made, and that every command since then could leave its marker. */
const ready = '.ready'

/**
 * Puts a command under a marker: a script for `/bin/sh` that begins it in a subshell, waits for it, and needs nothing but builtins
 * except where the folder is not there yet. It holds a reading end of the command's stdout and stderr, so that what the command prints
 * after a drop neither ends it nor goes astray: whoever comes back reads on at `/proc/PID/fd/8` and `9`.
 * A command whose marker somebody has taken is not begun: it was given up.
 */
export function underMarker(command: string, folder: string, id: string): string {
  return `_rd=${folder}; _rm=$_rd/${id}; ${ownStart}; set -C
${leaveMarker('$$ $_rt', 'exit 254')}; set +C; trap : TERM
${holdReadingEnds}
(:
${command}
) 8<&- 9<&-
_rs=$?; [ ! -e "$_rm" ] || { echo $_rs >>"$_rm"; } 2>/dev/null; exit $_rs`
}

/**
 * Reads a file `/proc/PID/stat`, as proc(5) describes it: the process's state, and when it was started, in ticks of the clock since the
 * boot. A process id is another's by now if it was started at another time. A shell's name has no blanks.
 */
const readStat = (file: string, state: string, start: string) =>
  `read -r _rx _rx ${state} ${'_rx '.repeat(18)}${start} _rx <${file}`

/** A shell says when it was itself started. */
export const ownStart = `{ ${readStat('/proc/$$/stat', '_rx', '_rt')}; } 2>/dev/null || _rt=`

/**
 * The same for a command that a long-lived shell is given, as a part of a function whose arguments are its id and the folder. The marker
 * then names the shell, which has said `ownStart`, and that it is one.
 */
export const markerOfShell = `_rd=$2; _rm=
if [ -n "$_rd" ]; then _rm=$_rd/$1; set -C
${leaveMarker('$$ $_rt shell', '_rekey_end $1 254; set +C; return')}; set +C; fi`

/** Creates the marker, and the folder where it is not there yet; a marker that somebody has taken is left to them. */
function leaveMarker(who: string, giveIn: string): string {
  return `{ echo "${who}" >"$_rm"; } 2>/dev/null || {
[ ! -e "$_rm" ] || { ${giveIn}; }
{ (umask 077; mkdir -p "$_rd") && read -r _rb </proc/sys/kernel/random/boot_id && echo "$_rb" >|"$_rd/${ready}" && echo "${who}" >"$_rm"; } 2>/dev/null || rm -f "$_rd/${ready}"
}`
}

/** Has a shell hold a reading end of its stdout and stderr, as its files 8 and 9. */
export const holdReadingEnds =
  '[ -p /proc/self/fd/1 ] && [ -r /proc/self/fd/1 ] && [ -p /proc/self/fd/2 ] && [ -r /proc/self/fd/2 ] && exec 8</proc/self/fd/1 9</proc/self/fd/2'

/** Whether the process of a marker is there, and not another one that has its number by now. */
const alive = `alive() { { ${readStat('"/proc/$p/stat"', 'state', 'since')}; } 2>/dev/null && [ "$since" = "$start" ] && [ "$state" != Z ]; }`

/**
 * Asks what became of a command, and sees to it that one which has not begun never will. Its first line of output is for `readFound`; of
 * a command that runs, all that it prints from now on follows, until it has ended.
 */
export function lookScript(folder: string, id: string): string {
  return `d=${folder}; m=$d/${id}
if (set -C; echo void >"$m") 2>/dev/null; then
  { read -r made <"$d/${ready}"; } 2>/dev/null && read -r now </proc/sys/kernel/random/boot_id && [ "$made" = "$now" ] && echo never || echo unsure
  exit
fi
[ -e "$m" ] || { echo unsure; exit; }
# Which process waits, since when, and whether it is a shell that waits for others after this one.
status() { { read -r p start shell; read -r s; } <"$m" 2>/dev/null; [ -n "$s" ]; }
tell() { echo "ended $s"; exit; }
status && tell
[ -n "$p" ] || { sleep 0.2; status && tell; }
case $p in void) echo never; exit ;; '') echo unsure; exit ;; esac
${alive}
alive || { status && tell; echo gone; exit; }
{ command exec 8<"/proc/$p/fd/8" 9<"/proc/$p/fd/9"; } 2>/dev/null && held=yes
echo "running $p"
[ -z "$held" ] || { cat <&9 >&2 & cat <&8 & }
# A shell waits on: nobody will give it anything any more, and it holds its pipes open.
while [ -d "/proc/$p" ]; do [ -n "$shell" ] && status && kill -KILL "$p"; sleep 0.2; done
wait`
}

/** Reads the first line that `lookScript` printed. */
export function readFound(line: string): Found {
  const [word = '', number = ''] = line.trim().split(' ')
  if (word === 'never' || word === 'gone') return { is: word }
  if (word === 'ended') return { is: word, status: Number(number) }
  if (word === 'running') return { is: word, pid: Number(number) }
  return { is: 'unsure' }
}

/** Prints the ids of those commands of a run that still run, a line each. */
export function runningScript(folder: string): string {
  return `${alive}
for m in ${folder}/*; do
  p=; s=; { read -r p start shell; read -r s; } <"$m" 2>/dev/null
  [ -n "$p" ] && [ -z "$s" ] && alive && echo "\${m##*/}"
done; true`
}

/** Removes the markers of a run, and the folders above them that are empty then. */
export function tidyScript(folder: string): string {
  return `d=${folder}; rm -rf "$d"; rmdir "\${d%/*}" "\${d%/*/*}" 2>/dev/null; true`
}
