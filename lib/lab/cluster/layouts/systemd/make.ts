// Puts a cluster of systemd units onto machines, whatever its shape: its files, then etcd, the control plane and the nodes.
import { RekeyError } from '../../../../errors.ts'
import { waitFor } from '../../../command.ts'
import { exec, tryExec } from '../../../machines/machine.ts'
import { type Detail, type Report, timed } from '../../../progress.ts'
import { has, kubeletMachines, type Machine, masters, members, type Shape } from '../../../shape.ts'
import { corednsManifest } from './coredns.ts'

/** A file of a machine. */
export interface PlacedFile {
  readonly path: string
  readonly content: string
  readonly mode: number
}

/** A cluster of units, ready to be put onto its machines. */
export interface UnitCluster {
  /** Where its programs are found. */
  readonly programs: string
  readonly files: (machine: Machine) => readonly PlacedFile[]
  /** Units in the order in which they are started: each row on every machine that has them before the next row. */
  readonly units: readonly (readonly { readonly machine: Machine; readonly units: readonly string[] }[])[]
  /** The administrator's kubeconfig on each master. */
  readonly adminKubeconfig: string
  /** What the API is given first, such as its own way into the kubelets. */
  readonly manifests: readonly string[]
  /** What is said about nodes once they are there, as words of kubectl. */
  readonly afterwards: readonly (readonly string[])[]
}

/** Makes the cluster on machines that have booted for the first time. */
export async function makeOfUnits(
  shape: Shape,
  report: Report,
  prepare: (shape: Shape) => Promise<UnitCluster>,
): Promise<void> {
  const cluster = await timed(report, 'Make keys and certificates with openssl', () => prepare(shape))
  await timed(report, 'Copy files and units to the machines', () =>
    Promise.all(members(shape).map(machine => place(shape, machine, cluster))),
  )
  const [first] = masters(shape)
  const kubectl = (words: readonly string[], input?: string) =>
    exec(shape.name, first!.name, ['kubectl', `--kubeconfig=${cluster.adminKubeconfig}`, ...words], {
      input,
      timeout: 60,
    })
  for (const row of cluster.units)
    await timed(report, `Start ${[...new Set(row.flatMap(({ units }) => units))].join(', ')}`, async detail => {
      await Promise.all(row.map(({ machine, units }) => start(shape, machine, units)))
      if (row.some(({ units }) => units.includes('kube-apiserver')))
        await waitForApi(shape, cluster.adminKubeconfig, detail)
    })
  await timed(report, 'Give it its roles and CoreDNS', async () => {
    for (const manifest of cluster.manifests) await kubectl(['apply', '-f', '-'], manifest)
    if (has(shape, 'coredns')) await kubectl(['apply', '-f', '-'], corednsManifest(shape))
    await waitFor('the nodes to register', 120, async () => {
      const names = (await kubectl(['get', 'nodes', '-o', 'name'])).split('\n')
      return kubeletMachines(shape).every(({ hostname }) => names.includes(`node/${hostname}`)) || undefined
    })
    for (const words of cluster.afterwards) await kubectl(words)
  })
}

const programNames = [
  ...['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kube-proxy', 'kubectl', 'etcd'],
]

/** Writes a machine's files, links its programs, and takes away what the base has for kubeadm. */
async function place(shape: Shape, machine: Machine, { programs, files }: UnitCluster): Promise<void> {
  const end = 'THE-END-OF-THIS-FILE'
  const documents = files(machine).map(({ path, content, mode }) => {
    const text = content.endsWith('\n') ? content : `${content}\n`
    return `place ${path} ${mode.toString(8)} <<'${end}'\n${text}${end}\n`
  })
  await exec(shape.name, machine.name, ['sh', '-eu'], {
    timeout: 60,
    input: `
    rm -rf /etc/systemd/system/kubelet.service.d /etc/systemd/system/kubelet.service /usr/bin/kubeadm /usr/bin/kubelet
    mkdir -p ${programs}
    for program in ${programNames.join(' ')}; do ln -sf /usr/local/bin/kubernetes ${programs}/$program; done
    place() {
      mkdir -p "$(dirname "$1")"
      (umask 077; cat > "$1")
      chmod "$2" "$1"
    }
    ${documents.join('')}`,
  })
}

async function start(shape: Shape, machine: Machine, units: readonly string[]): Promise<void> {
  const { code, stderr } = await tryExec(
    shape.name,
    machine.name,
    ['sh', '-euc', 'systemctl daemon-reload; systemctl enable "$@"; systemctl start "$@"', 'sh', ...units],
    { timeout: 150 },
  )
  if (code === 0) return
  const journal = await exec(shape.name, machine.name, [
    ...['journalctl', '--no-pager', '--output=cat', '--lines=15'],
    ...units.map(unit => `--unit=${unit}`),
  ])
  throw new RekeyError(`${machine.name}: ${units.join(', ')} did not start: ${stderr.trim()}`, {
    code: 'lab.unit-failed',
    host: machine.name,
    hint: journal,
  })
}

async function waitForApi(shape: Shape, kubeconfig: string, detail: Detail): Promise<void> {
  let answer = ''
  for (const { name, address } of masters(shape))
    await waitFor(
      `the API server on ${name}`,
      400,
      async () => {
        const { code, stdout, stderr } = await tryExec(
          shape.name,
          name,
          [
            ...['kubectl', `--kubeconfig=${kubeconfig}`, `--server=https://${address}:6443`, '--request-timeout=4s'],
            ...['get', '--raw=/readyz'],
          ],
          { timeout: 30 },
        )
        answer = (stdout || stderr).trim().split('\n').at(-1)!.slice(0, 100)
        detail(`${name}: ${answer}`)
        return (code === 0 && answer === 'ok') || undefined
      },
      { every: 1000, hint: () => answer },
    )
}
