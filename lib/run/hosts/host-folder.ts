// Where rekey keeps what it knows on a host: the lock, the audit log, commands that are due.
import { quote } from '../../connection/shell.ts'
import type { Host } from '../../playbook/host.ts'

/** A script in which `$d` is that folder, made where it is missing, and `$log` the audit log. */
export function inHostFolder({ vars }: Host, body: string): string {
  const own = vars['rekey_directory']
  const places =
    typeof own === 'string'
      ? `d=${quote(own)}; log=$d/audit.log`
      : 'if [ "$(id -u)" = 0 ]; then d=/var/lib/rekey log=/var/log/rekey-audit.log; else d=$HOME/.local/state/rekey; log=$d/audit.log; fi'
  return `${places}\n[ -d "$d" ] || (umask 077; mkdir -p "$d") || exit 1\n${body}`
}
