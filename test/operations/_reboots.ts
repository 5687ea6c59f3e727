// Hosts that are started anew, as far as anybody can tell: sshds whose boot is a file of the test's own, and a command that ends all their
// connections. Root alone can have them.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startSshd, type TestSshd } from '../ssh/sshd.ts'

/** A case: what there is, what is asked, and what ansible-core made of it (npm run test:update-ansible writes that). */
export interface RebootCase {
  readonly about: string
  /** The host is this machine, over no connection. */
  readonly local?: true
  /** `@` is the folder of the host, in which `go` is the command. */
  readonly options: Readonly<Record<string, string | number>>
  /** Where Ansible's are others; null takes one away. */
  readonly ansibleOptions?: Readonly<Record<string, string | number | null>>
  readonly ansible?: RebootAnswer
  /** Where rekey does something else, why, and what. */
  readonly rekey?: Partial<RebootAnswer> & { readonly why: string }
}

export interface RebootAnswer {
  readonly failed: boolean
  /** Whether check mode would do it. */
  readonly check: boolean
  /** How often the command was given, after check mode and the first time. */
  readonly asked: number
  /** Whether the host is in another boot then. */
  readonly another: boolean
}

export const canReboot = process.getuid?.() === 0 && existsSync('/usr/bin/unshare') && existsSync('/usr/bin/pkill')

/** What the command does: `down HALVES-OF-A-SECOND` makes the host anew, `later` well only after a while; `drop` cuts its connections and no more. */
const go = `#!/bin/sh
# Whoever asked may be gone at once.
trap '' HUP
d=$(dirname "$0")
echo asked >>$d/asked
case $1 in
  down) setsid $d/anew "$2" "$3" </dev/null >/dev/null 2>&1 & ;;
  drop) setsid sh -c 'sleep 0.3; pkill -KILL -P $(cat $0/pid)' $d </dev/null >/dev/null 2>&1 & ;;
  fail) echo 'not today' >&2; exit 3 ;;
esac
`
const anew = `#!/bin/sh
d=$(dirname "$0")
l=$(cat $d/pid)
sleep 0.3; kill -STOP $l; pkill -KILL -P $l
i=0; while [ $i -lt $1 ]; do i=$((i + 1)); sleep 0.5; [ -e $d/pid ] || exit; done
echo another >$d/boot; [ "$2" ] || : >$d/ready
kill -CONT $l
[ "$2" ] || exit
sleep 2; [ ! -e $d/pid ] || : >$d/ready
`

/** Starts one. */
export function startHost(): Promise<TestSshd> {
  return startSshd([], {
    wrap: (command, folder) => {
      writeFileSync(join(folder, 'boot'), 'first\n')
      writeFileSync(join(folder, 'go'), go, { mode: 0o755 })
      writeFileSync(join(folder, 'anew'), anew, { mode: 0o755 })
      const script = `mount --bind ${join(folder, 'boot')} /proc/sys/kernel/random/boot_id; exec "$@"`
      return ['unshare', '--mount', '--propagation', 'private', 'sh', '-ec', script, 'sh', ...command]
    },
  })
}

/** What became of it. */
export function stateOf({ folder }: TestSshd): Pick<RebootAnswer, 'asked' | 'another'> {
  const asked = join(folder, 'asked')
  return {
    asked: existsSync(asked) ? readFileSync(asked, 'utf8').split('\n').length - 1 : 0,
    another: readFileSync(join(folder, 'boot'), 'utf8') !== 'first\n',
  }
}

/** `@/x` of options, in the folder of a host. */
export function optionsOf(
  options: Readonly<Record<string, string | number | null>>,
  { folder }: TestSshd,
): Readonly<Record<string, string | number>> {
  return Object.fromEntries(
    Object.entries(options).flatMap(([name, value]) =>
      value === null ? [] : [[name, typeof value === 'string' ? value.replaceAll('@/', `${folder}/`) : value]],
    ),
  )
}
