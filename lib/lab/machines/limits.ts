// Limits of the kernel that all machines of all labs share, and that are too low for seven systemds and their pods.
import { readFileSync, writeFileSync } from 'node:fs'
import type { Report } from '../progress.ts'

const wanted: Readonly<Record<string, number>> = {
  'fs/inotify/max_user_instances': 8192,
  'fs/inotify/max_user_watches': 524288,
  'kernel/keys/root_maxkeys': 10000,
  'kernel/keys/root_maxbytes': 1000000,
}

/** Raises what is too low, until this machine is restarted, and says so. */
export function raiseLimits(report: Report): void {
  for (const [name, value] of Object.entries(wanted)) {
    const file = `/proc/sys/${name}`
    const current = Number(readFileSync(file, 'utf8'))
    if (current >= value) continue
    writeFileSync(file, String(value))
    report({
      kind: 'note',
      text: `Raised ${name.replaceAll('/', '.')} from ${current} to ${value}, until the next restart`,
    })
  }
}
