// A component by its process alone, with its files as that process sees them: for who only reads from a machine whose layout rekey does not change,
// such as those of kOps.
import { posix } from 'node:path'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'
import { flagsOfWords } from './flags.ts'
import type { ComponentName, FoundComponent } from './host-layout.ts'
import { endpointsOf, namedByFlags } from './named-files.ts'

/**
 * Prints the processes that were started by this name: each one's id, then the words of its command line. What has a network of its own is a pod of
 * somebody's, not what the machine runs by.
 */
const script = `own=$(readlink /proc/self/ns/net)
for file in $(grep -lsE "(^|/)$1" /proc/[0-9]*/cmdline); do
  first=$(tr '\\000' '\\n' <"$file" 2>/dev/null | head -n 1)
  [ "\${first##*/}" = "$1" ] || continue
  file=\${file%/cmdline}
  [ "$(readlink "$file/ns/net")" = "$own" ] || continue
  echo "== \${file#/proc/}"
  tr '\\000\\n' '\\n ' <"$file/cmdline"
done`

/**
 * The component of a name, as it runs on a host; undefined where it does not.
 * @throws HostFailedError where it runs there more than once
 */
export async function runningComponent(
  { $, host }: Pick<HostSession, '$' | 'host'>,
  component: ComponentName,
): Promise<FoundComponent | undefined> {
  const { stdout } = await $({ quiet: true })`sh -c ${script} rekey ${component}`
  const [one, another] = stdout.split(/^== /m).slice(1)
  if (one === undefined) return undefined
  const [pid = '', ...words] = one.replace(/\n$/, '').split('\n')
  if (another !== undefined || !/^\d+$/.test(pid)) {
    throw new HostFailedError(`${host.name} runs ${component} more than once`, {
      code: 'layout.more-than-one',
      host: host.name,
    })
  }
  const flags = flagsOfWords(words.slice(1))
  const hostPath = (path: string) => `/proc/${pid}/root${posix.resolve('/', path)}`
  const places = { hostPath, real: (path: string) => path, exists: () => true }
  return {
    ...{ component, runs: { kind: 'pod' }, processes: [Number(pid)], flags, drift: [] },
    files: namedByFlags(component, flags, flag => `--${flag}`, places),
    endpoints: endpointsOf(component, flags),
  }
}
