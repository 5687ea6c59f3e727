// What a backup of a lab holds, against what lies on its machines: every key, CA, certificate, kubeconfig, unit and file of its environment,
// byte for byte, and a snapshot that etcdutl accepts.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as lab from '../../../lib/lab/index.ts'
import { temporaryFolder } from '../../_temporary.ts'

/** Hashes of what a backup of a machine must hold, by where the files lie. `$1` is whether the administrator's kubeconfig counts. */
const everything = `
{
  grep -rlsIE -e '-----BEGIN [A-Z ]*(KEY|CERTIFICATE)-----|(certificate-authority|client-certificate)(-data)?:' \
    /etc/kubernetes /etc/etcd /etc/ssl/etcd /usr/local/share/ca-certificates /var/lib/kubernetes /var/lib/kubelet /var/lib/kube-proxy 2>/dev/null |
    grep -vE '^/var/lib/kubelet/(pods|plugins)'
  [ "$1" != master ] || ls /root/admin.kubeconfig /root/.kube/config 2>/dev/null
  find /etc/kubernetes/manifests /etc/kubernetes/*.env /etc/kubernetes/*.yaml /var/lib/kubelet/config.yaml /var/lib/kubelet/kubelet-config.yaml /var/lib/kube-proxy/*.yaml /var/lib/kubernetes/*.yaml -type f 2>/dev/null
  for unit in etcd kubelet kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
    # What is installed and off, as a kubelet on hosts of etcd, is none of the cluster's.
    systemctl -q is-active $unit.service || systemctl -q is-enabled $unit.service 2>/dev/null || continue
    systemctl cat $unit.service 2>/dev/null | sed -n 's/^# \\(\\/.*\\)$/\\1/p'
    systemctl show -p EnvironmentFiles --value $unit.service 2>/dev/null | sed 's/ (ignore_errors=.*//'
  done
} | grep ^/ | while IFS= read -r f; do [ ! -f "$f" ] || readlink -f "$f"; done | sort -u | while IFS= read -r f; do sha256sum "$f"; done`

/**
 * What the backups in the folder of a run lack, or have otherwise than the machines do.
 * @returns a line for each difference
 */
export async function backupDifferences(shape: lab.Shape, folder: string): Promise<string[]> {
  const differences: string[] = []
  const machines = shape.machines.filter(({ role }) => role === 'master' || role === 'node' || role === 'etcd')
  for (const { name: machine, role } of machines) {
    const unpacked = temporaryFolder('backup')
    execFileSync('tar', ['-xzf', join(folder, 'backups', machine, 'host.tgz'), '-C', unpacked])
    const lines = (await lab.exec(shape.name, machine, ['sh', '-c', everything, 'sh', role])).trim().split('\n')
    for (const [hash = '', path = ''] of lines.map(line => line.split('  '))) {
      const kept = join(unpacked, path)
      if (!existsSync(kept)) differences.push(`${machine}: not kept: ${path}`)
      else if (sha256(kept) !== hash) differences.push(`${machine}: kept otherwise: ${path}`)
    }
    if (lines.length < 4) differences.push(`${machine}: only ${lines.length} files were found to compare`)
  }
  return [...differences, ...(await wrongWithSnapshot(shape, folder))]
}

/** The snapshot stays on the host that it was taken on; the one here is the same, byte for byte. */
async function wrongWithSnapshot(shape: lab.Shape, folder: string): Promise<string[]> {
  const here = readdirSync(join(folder, 'backups'), { recursive: true, encoding: 'utf8' }).filter(one =>
    one.endsWith('.db'),
  )
  if (here.length !== 1) return [`snapshots here: ${here.join(', ') || 'none'}`]
  const [file = ''] = here
  const [machine = ''] = file.split('/')
  const find =
    'f=$(find /var/backups/rekey -name "*.db" -newer /etc/hostname | xargs ls -t | head -n 1); sha256sum "$f"; etcdutl snapshot status "$f" -w json'
  const said = await lab.exec(shape.name, machine, ['sh', '-c', find])
  const { totalKey = 0 } = JSON.parse(said.slice(said.indexOf('{'))) as { totalKey?: number }
  return [
    ...(said.startsWith(sha256(join(folder, 'backups', file)))
      ? []
      : [`the snapshot here is another than on ${machine}`]),
    ...(totalKey > 100 ? [] : [`the snapshot has ${totalKey} keys`]),
  ]
}

const sha256 = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex')
