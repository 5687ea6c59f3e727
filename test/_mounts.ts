// Mounts that a test alone sees.
import { spawnSync } from 'node:child_process'

/** Runs what follows where its mounts are nobody else's. */
export const withOwnMounts = ['unshare', process.getuid?.() === 0 ? '-m' : '-rm'] as const

/** Why that can't be had here, or `undefined` where it can. */
export function ownMountsMissing(): string | undefined {
  const [program, flags] = withOwnMounts
  return spawnSync(program, [flags, 'true']).status === 0
    ? undefined
    : 'this system gives whoever is not root no mounts of their own'
}
