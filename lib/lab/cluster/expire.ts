// The day on which nobody has renewed them: certificates of a lab's cluster are signed anew for a short while, with the names, keys and
// extensions that they have, and that while is waited for. Then everything is started as after a power cut, and finds them ended. No clock is
// changed.
import { X509Certificate } from 'node:crypto'
import { RekeyError } from '../../errors.ts'
import {
  certificatesWithin,
  privateKeysWithin,
  publicKeysOf,
  withCertificates,
} from '../../pki/certificates/bundle-text.ts'
import { keyMatches, parseCertificate } from '../../pki/certificates/certificate.ts'
import { waitFor } from '../command.ts'
import { exec } from '../machines/machine.ts'
import { type Report, timed } from '../progress.ts'
import { etcdMachines, type Machine, members, type Shape } from '../shape.ts'
import { examineCluster } from './cluster.ts'

/** What can run out: all that the cluster's CAs have signed, or the CAs themselves. */
export const expirable = ['leaves', 'authorities'] as const

export type Expirable = (typeof expirable)[number]

/** A text of a machine with certificates or keys in it. */
interface Held {
  readonly machine: Machine
  readonly path: string
  readonly text: string
}

/** A CA with its key. */
interface Signer {
  readonly pem: string
  readonly key: string
}

/** Where the machines of any layout keep theirs. */
const folders = [
  ...['/etc/kubernetes', '/var/lib/kubelet', '/var/lib/kubernetes', '/var/lib/kube-proxy'],
  ...['/etc/etcd', '/etc/ssl/etcd', '/root'],
]

/**
 * Has certificates of a cluster that is up end after `seconds`, waits until then, and starts what runs by them anew.
 * @throws RekeyError `lab.expire` where no machine has the key of a CA; `lab.timeout` where the API goes on answering
 */
export async function expire(shape: Shape, what: Expirable, seconds: number, report: Report): Promise<void> {
  const machines = [...new Set([...members(shape), ...etcdMachines(shape)])]
  const held = (await Promise.all(machines.map(machine => textsOf(shape, machine)))).flat()
  const signers = signersIn(held)
  if (signers.length === 0)
    throw new RekeyError(`no machine of lab '${shape.name}' has the key of a CA`, { code: 'lab.expire' })
  const until = new Date(Math.ceil(Date.now() / 1_000 + seconds) * 1_000)
  await timed(report, `Have the ${what} end at ${until.toISOString()}`, async detail => {
    const changed = await endingAt(held, signers, what, until)
    await Promise.all(changed.map(one => write(shape, one)))
    detail(`${changed.length} files`)
  })
  await timed(report, 'Wait until then', detail =>
    waitFor('the certificates to end', seconds + 60, () => {
      const left = (until.getTime() - Date.now()) / 1_000
      detail(`${Math.max(0, left).toFixed(0)} s left`)
      return left < -1 || undefined
    }),
  )
  await timed(report, 'Start everything anew, as after a power cut', () =>
    Promise.all(machines.map(machine => startAnew(shape, machine))),
  )
  await timed(report, 'See that the API is gone', () =>
    waitFor(
      'the API to answer no more',
      60,
      async () => (await examineCluster(shape)).includes('the API does not answer') || undefined,
    ),
  )
}

async function textsOf(shape: Shape, machine: Machine): Promise<Held[]> {
  const script = `find -H "$@" -xdev -maxdepth 4 \\( -name pods -o -name plugins -o -name '.rekey*' \\) -prune -o -type f -size -256k \\
  -exec grep -lsE -e '-BEGIN [A-Z ]*(CERTIFICATE|PRIVATE KEY)-' -e 'certificate(-authority)?-data"?:' {} + 2>/dev/null |
  while IFS= read -r path; do printf '%s\\n%s\\n' "$path" "$(base64 -w0 <"$path")"; done`
  const lines = (await exec(shape.name, machine.name, ['sh', '-c', script, 'sh', ...folders])).split('\n')
  return lines.flatMap((path, index) =>
    index % 2 === 1 || path === ''
      ? []
      : [{ machine, path, text: Buffer.from(lines[index + 1] ?? '', 'base64').toString('latin1') }],
  )
}

/** The CAs of the cluster whose keys lie on a machine. */
function signersIn(held: readonly Held[]): Signer[] {
  const keys = [...new Set(held.flatMap(({ text }) => privateKeysWithin(text)))]
  const authorities = [...new Set(held.flatMap(({ text }) => certificatesWithin(text)))].filter(
    pem => parseCertificate(pem).isAuthority,
  )
  return authorities.flatMap(pem => {
    const key = keys.find(one => keyMatches(pem, one))
    return key === undefined ? [] : [{ pem, key }]
  })
}

/** The files that hold something that is to end, with what they hold then. Each certificate is signed once, wherever it lies. */
async function endingAt(
  held: readonly Held[],
  signers: readonly Signer[],
  what: Expirable,
  until: Date,
): Promise<Held[]> {
  const { signAnew } = await import('../../pki/issuer/signing.ts')
  const times = { notBefore: new Date(Date.now() - 300_000), notAfter: until }
  const next = new Map<string, string>()
  for (const pem of new Set(held.flatMap(({ text }) => certificatesWithin(text)))) {
    const isAuthority = signers.some(signer => signer.pem === pem)
    if (isAuthority !== (what === 'authorities')) continue
    const signer = signers.find(one => new X509Certificate(pem).verify(new X509Certificate(one.pem).publicKey))
    if (signer) next.set(pem, await signAnew(pem, { ...times, signingKey: signer.key, sameSerial: true }))
  }
  return held.flatMap(one => {
    const text = certificatesWithin(one.text).reduce((all, pem) => {
      const short = next.get(pem)
      return short === undefined ? all : withCertificates(all, publicKeysOf(pem), short)
    }, one.text)
    return text === one.text ? [] : [{ ...one, text }]
  })
}

/** Replaces a file in one step; mode and owner stay. */
async function write({ name }: Shape, { machine, path, text }: Held): Promise<void> {
  const script = `umask 077; cat >"$1.new" && chown --reference="$1" "$1.new" && chmod --reference="$1" "$1.new" && mv -f "$1.new" "$1"`
  await exec(name, machine.name, ['sh', '-c', script, 'sh', path], { input: text })
}

/** The kubelet first: one that comes no further starts no pod again. */
async function startAnew(shape: Shape, { name }: Machine): Promise<void> {
  const script = `for unit in kubelet etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
  [ "$(systemctl show -p LoadState --value "$unit")" != loaded ] || systemctl restart --no-block "$unit"
done
# What was started before is ended by then, or about to be.
n=0; while [ $n -lt 100 ]; do case $(systemctl show -p Job --value kubelet) in '' | 0) break ;; esac; sleep 0.1; n=$((n + 1)); done
pkill -KILL -x 'etcd|kube-apiserver|kube-controller|kube-scheduler'; true`
  await exec(shape.name, name, ['sh', '-c', script])
}
