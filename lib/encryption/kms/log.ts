// What a KMS plugin tells of requests in its own log.
import { clockOf, loggedLines } from '../../kubernetes/probes/log.ts'
import type { HostSession } from '../../playbook/model.ts'

/** The last line of a log in which something is found, and how many seconds ago it was written, by the clock of its host. */
export interface LastLine {
  readonly line: string
  readonly ago: number
}

/** How many of the last lines are looked through. */
const most = 2_000

/**
 * Looks for the last line of a plugin's log that has something.
 * @param plugin `NAME.service`, or the path of the manifest of its pod
 * @param pattern an expression of grep -Ei
 * @param node what the kubelet of the host was told to call itself: the name of a pod of its manifests ends with it
 * @returns undefined where none has
 * @throws HostFailedError where the log can't be read
 */
export async function lastAsked(
  session: HostSession,
  plugin: string,
  pattern: string,
  node?: string,
): Promise<LastLine | undefined> {
  const now = await clockOf(session)
  const logging = plugin.endsWith('.service')
    ? ({ kind: 'unit', unit: plugin } as const)
    : ({ kind: 'static-pod', manifest: plugin, node } as const)
  const last = (await loggedLines(session, logging, pattern, most)).at(-1)
  return last && { line: last.line, ago: now - last.at }
}
