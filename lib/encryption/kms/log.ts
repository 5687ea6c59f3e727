// What a KMS plugin tells of requests in its own log: a unit's journal, or what the kubelet keeps of a pod's output.
import { HostFailedError } from '../../errors.ts'
import { locatedYaml } from '../../kubernetes/located-yaml.ts'
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
  const now = (await session.$({ quiet: true })`date +%s.%N`).stdout.trim()
  const line = plugin.endsWith('.service')
    ? // What the unit itself wrote: systemd's own lines have its name in them, too.
      (
        await session.$({ quiet: true })`
lines=$(journalctl ${`_SYSTEMD_UNIT=${plugin}`} -o short-unix -n ${most} --no-pager -q) || exit
printf ${'%s\n'} "$lines" | { grep -Ei -e ${pattern} || [ $? -eq 1 ]; } | tail -n 1`
      ).stdout.trim()
    : await ofPod(session, plugin, pattern, node)
  if (line === '') return undefined
  const [time = ''] = line.split(' ')
  const at = /^\d+\.\d+$/.test(time) ? Number(time) : Date.parse(time) / 1_000
  if (!Number.isFinite(at))
    throw new HostFailedError(`a line of the log of ${plugin} on ${session.host.name} begins with no time`, {
      code: 'encryption.log',
      host: session.host.name,
    })
  return { line, ago: Number(now) - at }
}

/** A kubelet begins each line with its time. */
async function ofPod(session: HostSession, manifest: string, pattern: string, node = ''): Promise<string> {
  const { value } = locatedYaml(await session.files.readText(manifest), `${session.host.name}:${manifest}`)
  const { metadata } = (value ?? {}) as { metadata?: { name?: unknown; namespace?: unknown } }
  const [name, namespace] = [metadata?.name, metadata?.namespace ?? 'default']
  if (typeof name !== 'string' || typeof namespace !== 'string' || !/^[a-z0-9.-]+$/.test(`${name}${namespace}`))
    throw new HostFailedError(`${session.host.name}:${manifest} is no manifest of a pod`, {
      code: 'encryption.log',
      host: session.host.name,
    })
  // NAMESPACE_POD-NODE_UID/CONTAINER/N.log: to its end, as another pod's name may go on behind this one's.
  const { stdout } = await session.$({ quiet: true })`
node=${node}; [ -n "$node" ] || node=$(uname -n | tr A-Z a-z)
lines=$(find /var/log/pods -path ${`/var/log/pods/${namespace}_${name}-`}"$node"_'*/*/*.log' -exec tail -q -n ${most} {} +) || exit
printf ${'%s\n'} "$lines" | { grep -Ei -e ${pattern} || [ $? -eq 1 ]; } | sort | tail -n 1`
  return stdout.trim()
}
