// Programs that ask for passwords as sudo, su and doas do, and become nobody: they set BECAME for what they run. For tests on
// machines where the real ones are missing, or may not be used.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export const rightPassword = 'correct horse battery'

export interface BecomePrograms {
  readonly folder: string
  /** For sshd's configuration: what it starts finds these programs first. */
  readonly configuration: readonly string[]
  /** How often each of them was started, and with what. */
  calls(): string[]
  /** Lets everybody through without a password from now on. */
  allowEverybody(): void
  /** Forgets the calls, and asks again. */
  reset(): void
}

const record = 'here=$(dirname "$0"); echo "$(basename "$0") $*" >>"$here/calls"'

const sudo = `#!/bin/sh
${record}
prompt='[sudo] password: '; ask=yes
while :; do
  case $1 in
    -n) ask=no; shift ;;
    -k|-S) shift ;;
    -p) prompt=$2; shift 2 ;;
    -u) user=$2; shift 2 ;;
    --) shift; break ;;
    *) break ;;
  esac
done
if [ ! -e "$here/everybody" ]; then
  [ $ask = yes ] || { echo 'sudo: a password is required' >&2; exit 1; }
  printf '\\nWe trust you have received the usual lecture:\\n\\n    #1) Respect the privacy of others.\\n\\n' >&2
  tries=0
  while :; do
    printf '%s' "$prompt" >&2
    IFS= read -r given || { echo 'sudo: no password was provided' >&2; exit 1; }
    [ "$given" != '${rightPassword}' ] || break
    tries=$((tries + 1))
    [ $tries -lt 3 ] || { echo 'sudo: 3 incorrect password attempts' >&2; exit 1; }
    echo 'Sorry, try again.' >&2
  done
fi
[ "$user" != forbidden ] || { echo 'me is not in the sudoers file.' >&2; exit 1; }
exec env BECAME="$user" "$@"
`

const su = `#!/bin/sh
${record}
if [ ! -e "$here/everybody" ]; then
  printf 'Password: ' >&2
  IFS= read -r given || given=
  [ "$given" = '${rightPassword}' ] || { echo 'su: Authentication failure' >&2; exit 1; }
fi
[ "$1" != forbidden ] || { echo 'su: Permission denied' >&2; exit 1; }
# As the real one, it stays until the command has ended.
env BECAME="$1" /bin/sh -c "$3"
exit $?
`

const doas = `#!/bin/sh
${record}
ask=yes
[ "$1" != -n ] || { ask=no; shift; }
user=$2; shift 2
if [ ! -e "$here/everybody" ]; then
  [ $ask = yes ] || { echo 'doas: Authentication required' >&2; exit 1; }
  ( : </dev/tty ) 2>/dev/null || { echo 'doas: a tty is required' >&2; exit 1; }
  stty -echo </dev/tty
  printf '\\rdoas (me@here) password: ' >/dev/tty
  IFS= read -r given </dev/tty
  stty echo </dev/tty
  echo >/dev/tty
  [ "$given" = '${rightPassword}' ] || { echo 'doas: Authentication failed' >&2; exit 1; }
fi
[ "$user" != forbidden ] || { echo 'doas: Operation not permitted' >&2; exit 1; }
exec env BECAME="$user" "$@"
`

/** Writes the programs into a folder. */
export function becomePrograms(parent: string): BecomePrograms {
  const folder = join(parent, 'become-programs')
  mkdirSync(folder)
  for (const [name, text] of Object.entries({ sudo, su, doas })) {
    writeFileSync(join(folder, name), text, { mode: 0o755 })
  }
  return {
    folder,
    configuration: [`SetEnv PATH=${folder}:/usr/local/bin:/usr/bin:/bin`],
    calls: () => {
      try {
        return readFileSync(join(folder, 'calls'), 'utf8').match(/^(sudo|su|doas) .*/gm) ?? []
      } catch {
        return []
      }
    },
    allowEverybody: () => writeFileSync(join(folder, 'everybody'), ''),
    reset: () => {
      for (const name of ['everybody', 'calls']) rmSync(join(folder, name), { force: true })
    },
  }
}
