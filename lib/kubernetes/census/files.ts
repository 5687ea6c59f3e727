// Certificates in the files of a machine: where clusters of any layout keep them, where flags of what runs there say they are, and in the
// kubeconfigs of everybody who has a home there. Reads only; no key and no token leaves the machine.
import { readFileSync } from 'node:fs'
import { posix } from 'node:path'
import { ownFile } from '../../package.ts'
import { certificatesWithin } from '../../pki/certificates/bundle-text.ts'
import type { HostSession } from '../../playbook/model.ts'
import { usualFolders } from '../layout/discover.ts'
import { type CensusEntry, readable } from './entry.ts'
import { clustersWithin } from './kubeconfigs.ts'

const componentsByPath: [pattern: RegExp, component: string][] = [
  [/\/\.kube\//, 'kubeconfig'],
  [/\/etcd\//, 'etcd'],
  [/\/kubelet\/|kubelet\.conf/, 'kubelet'],
  [/controller-manager/, 'kube-controller-manager'],
  [/scheduler/, 'kube-scheduler'],
  [/kube-proxy/, 'kube-proxy'],
  [/admin\.conf/, 'admin'],
  [/\/etc\/kubernetes\//, 'kube-apiserver'],
]

/** More than this is no cluster's certificates. */
const mostBytes = 32 * 1024 * 1024

/**
 * Every certificate in the files of a machine, those of kubeconfigs among them. What is no certificate is told to `notice`.
 * @param more folders to look in beside the usual ones
 * @param missed is told where something may not be read, so that certificates may be missing
 */
export async function fileCertificates(
  { $, host: { name: host } }: Pick<HostSession, '$' | 'host'>,
  notice: (text: string) => void,
  more: readonly string[] = [],
  missed = notice,
): Promise<CensusEntry[]> {
  const script = readFileSync(ownFile('lib/kubernetes/census/find-certificates.sh'), 'utf8')
  const folders = [...usualFolders, ...more]
  const { stdout } = await $({ quiet: true })`{ sh -c ${script} rekey ${folders}; } | head -c ${mostBytes}`
  const lines = (mark: string) => stdout.split('\n').flatMap(line => (line.startsWith(mark) ? [line.slice(3)] : []))

  for (const folder of lines('?? ')) if (more.includes(folder)) notice(`${host}: there is no folder ${folder}`)
  const homes = lines('?- ')
  if (homes.length > 0) notice(`${host}: kubeconfigs may be missing: ${counted(homes)} can't be entered; try --become`)
  const denied = lines('!! ').map(line => line.replace(/^(find|grep): /, ''))
  if (denied.length > 0)
    missed(`${host}: not everything may be read (${counted(denied)}): certificates may be missing here; try --become`)
  if (!stdout.endsWith('\n.. end\n')) {
    const why =
      stdout.length >= mostBytes ? `there are more than ${mostBytes} bytes of them` : 'the reading ended early'
    missed(`${host}: not all certificates were read: ${why}`)
  }

  const uses = usesOf(lines(':: '))
  const sections = stdout.split(/^== /m).slice(1).map(sectionOf)
  const servers = new Map(sections.flatMap(({ led }) => led))
  return sections.flatMap(({ path, own, embedded }) => {
    const base = {
      ...{ where: `${host}:${path}`, kind: 'file' as const, host, place: path, uses: uses.get(path) },
      component: componentsByPath.find(([pattern]) => pattern.test(path))?.[1] ?? userOf(uses.get(path)) ?? 'unknown',
    }
    const found = [...own.map(pem => ({ pem, server: servers.get(path), embedded: false })), ...embedded]
    const each = new Map(found.map(one => [one.pem, one]))
    return [...each.values()].flatMap(({ pem, ...rest }) =>
      readable([pem], base.where, notice).map(facts => ({ ...base, ...rest, facts })),
    )
  })
}

/** What was printed of one file. */
function sectionOf(section: string) {
  const [path = '', ...lines] = section.split('\n')
  const isField = (line: string) => /^[\s{,"-]*(certificate-authority|client-certificate|server|cluster)/.test(line)
  const fields = lines.filter(isField).join('\n')
  const clusters = clustersWithin(fields)
  const authorities = clusters.flatMap(({ server, authorities: all }) =>
    all.map(pem => ({ pem, server, embedded: true })),
  )
  const clients = certificatesWithin(fields.replaceAll(/certificate-authority-data.*/g, ''))
  return {
    path,
    own: certificatesWithin(lines.filter(line => !isField(line)).join('\n')),
    embedded: [...authorities, ...clients.map(pem => ({ pem, server: undefined, embedded: true }))],
    led: clusters.flatMap(({ server, authorityFile }): [string, string][] =>
      server && authorityFile ? [[posix.resolve(posix.dirname(path), authorityFile), server]] : [],
    ),
  }
}

/** Of `kube-apiserver client-ca-file /etc/kubernetes/pki/ca.crt`, by file. */
function usesOf(lines: readonly string[]): Map<string, string[]> {
  const uses = new Map<string, string[]>()
  for (const line of lines) {
    const [component = '', flag = '', ...path] = line.split(' ')
    const file = path.join(' ')
    uses.set(file, [...(uses.get(file) ?? []), `${component} ${flag}`])
  }
  return uses
}

const userOf = (uses: readonly string[] | undefined) => uses?.[0]?.split(' ')[0]

function counted([first, ...others]: readonly string[]): string {
  return others.length > 0 ? `${first}, and ${others.length} more` : `${first}`
}
