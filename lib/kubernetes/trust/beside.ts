// Certificates that lie beside the plan: somebody else's, leftovers that nothing names, or ones that a CA of the cluster signed and that
// something still uses, which a rotation would leave behind.
import { X509Certificate } from 'node:crypto'
import type { HostSession } from '../../playbook/model.ts'

/** A certificate that the plan does not replace. Plain data. */
export interface BesideThePlan {
  readonly host: string
  readonly path: string
  readonly subject: string
  /** `foreign`: none of the cluster's CAs signed it. `leftover`: one did, and nothing names the file. `in use`: something does. */
  readonly kind: 'foreign' | 'leftover' | 'in use'
  /** What names the file: another file, or a process. */
  readonly by?: string
}

/**
 * Says of each certificate on a host what it is.
 * @param found PEM by path
 * @param authorities the cluster's CAs, PEM
 */
export async function besideThePlan(
  session: HostSession,
  found: ReadonlyMap<string, string>,
  authorities: readonly string[],
): Promise<BesideThePlan[]> {
  const cas = authorities.map(pem => new X509Certificate(pem))
  const certificates = [...found].map(([path, pem]) => ({ path, certificate: new X509Certificate(pem) }))
  const signed = certificates.filter(({ certificate }) => isOf(certificate, cas))
  const named = await whoNames(
    session,
    signed.map(({ path }) => path),
  )
  return certificates.map(({ path, certificate }) => {
    const { subject } = certificate
    const one = { host: session.host.name, path, subject: subject.replaceAll('\n', ', ') }
    if (!isOf(certificate, cas)) return { ...one, kind: 'foreign' }
    const by = named.get(path)
    return by === undefined ? { ...one, kind: 'leftover' } : { ...one, kind: 'in use', by }
  })
}

function isOf(certificate: X509Certificate, cas: readonly X509Certificate[]): boolean {
  return cas.some(ca => certificate.checkIssued(ca) && certificate.verify(ca.publicKey))
}

// What may name a file: the command lines of processes, the environment of services, and what configures them. A path is given once a
// line; printed are lines `path<TAB>who`.
const namingScript = `
while IFS= read -r path; do
  [ -n "$path" ] || continue
  # By its standard input: a grep that has the path among its words finds itself.
  who=$(printf '%s\\n' "$path" | grep -lsF -f - /proc/[0-9]*/cmdline /proc/[0-9]*/environ | head -n 9 | while IFS= read -r c; do
    p=\${c#/proc/}; p=\${p%%/*}
    # Not this script, nor what started it or what it started: grep finds itself.
    grep -qsF 'whoNames=1' "/proc/$p/cmdline" "/proc/$p/environ" && continue
    n=$(tr '\\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | cut -c1-60); [ -n "$n" ] && printf 'process %s (%s)' "$p" "$n" && break
  done)
  [ -n "$who" ] || who=$(grep -rlsIF --include='*.conf' --include='*.yaml' --include='*.yml' --include='*.json' --include='*.kubeconfig' --include='*.toml' --include='*.service' --include='*.env' --include='*.cfg' -- "$path" /etc/kubernetes /etc/systemd /etc/default /etc/sysconfig /etc/cni /etc/calico /etc/containerd /var/lib/kubelet/config.yaml /etc/etcd /etc/etcd.env /lib/systemd/system 2>/dev/null | head -n 1)
  [ -z "$who" ] || printf '%s\\t%s\\n' "$path" "$who"
done`

/** What names files on a host, by their paths; nothing of those that nothing names. */
export async function whoNames({ $ }: HostSession, paths: readonly string[]): Promise<Map<string, string>> {
  if (paths.length === 0) return new Map()
  const { stdout } = await $({
    quiet: true,
    input: `${paths.join('\n')}\n`,
  })`whoNames=1 sh -c ${namingScript}`
  return new Map(
    stdout
      .split('\n')
      .map(line => line.split('\t'))
      .filter(([path, by]) => path && by)
      .map(([path = '', by = '']) => [path, by]),
  )
}

/** A line for each. */
export function tellBeside(those: readonly BesideThePlan[]): string[] {
  const words = {
    foreign: 'no CA of the cluster signed it, and it is left alone',
    leftover: 'nothing names it, and it is left alone; it is of no use afterwards',
    'in use': 'a CA of the cluster signed it',
  }
  return those.map(
    ({ host, path, subject, kind, by }) =>
      `${host}:${path} (${subject}): ${words[kind]}${by === undefined ? '' : `, and ${by} names it`}`,
  )
}
