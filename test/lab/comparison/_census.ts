// What `rekey certs` must find in a lab, found without it: openssl over every file of every machine, over every port with TLS, and over what
// kubectl reads. What the two differ in.
import { execFileSync } from 'node:child_process'
import { isIPv6 } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import * as lab from '../../../lib/lab/index.ts'
import { rekey, scratchFile } from '../_lab.ts'

/** A certificate, as openssl reads it. */
interface Facts {
  readonly fingerprint: string
  readonly notAfter: number
  /** DNS names and addresses. */
  readonly names: readonly string[]
  readonly isAuthority: boolean
}

interface Row {
  readonly where: string
  readonly kind: 'file' | 'served' | 'api'
  readonly host?: string
  readonly place?: string
  readonly fingerprint: string
  readonly notAfter: string
  readonly dnsNames: readonly string[]
  readonly ipAddresses: readonly string[]
  readonly isAuthority: boolean
  readonly issuerFingerprint?: string
  readonly problems: readonly string[]
}

/** Prints the PEM blocks of every file of a machine, but of what Debian and pods bring with them and of copies that somebody made aside. */
const everyFile = `
blocks() { sed -n '/-----BEGIN CERTIFICATE-----/,/-----END CERTIFICATE-----/p' "$1"; }
grep -rlsIE -e '-----BEGIN CERTIFICATE-----|certificate(-authority)?-data:' /etc /root /home /opt /srv /usr/local /var/lib 2>/dev/null |
  grep -vE '^/etc/(ssl/certs|ca-certificates)/|^/var/lib/(containerd|kubelet/pods|etcd|dpkg|rekey)|^/root/old|^/(root|home/[^/]*)/\\.kube/cache/' | while IFS= read -r f; do
  echo "== $f"
  blocks "$f"
  sed -nE 's/^.*(client-certificate-data|certificate-authority-data): *"?([^" ]*)"?.*$/\\2/p' "$f" | while IFS= read -r data; do printf %s "$data" | base64 -d; echo; done
done`

/** Ports of components that take TLS on a machine, with the address to ask: whatever listens there and shakes hands. */
const everyPort = `
ss -Hltnp | grep -E 'kube-apiserver|kube-controller|kube-scheduler|kubelet|kube-proxy|"etcd"|"kubernetes"' | awk '{ print $4 }' | sort -u | while IFS= read -r at; do
  port=\${at##*:}; address=\${at%:*}
  case $address in '*' | 0.0.0.0 | '[::]') address=127.0.0.1 ;; esac
  pem=$(timeout 5 openssl s_client -showcerts -connect "$address:$port" </dev/null 2>/dev/null | sed -n '/BEGIN CERT/,/END CERT/p')
  [ -z "$pem" ] || printf '== %s\\n%s\\n' "$port" "$pem"
done`

/**
 * Compares what `rekey certs` lists of a lab with what is really there. What differs is looked at again: a component that was just restarted
 * presents another certificate than a moment ago, where it makes its own.
 * @param kubeconfig the administrator's, on m1
 * @returns a line for each difference
 */
export async function censusDifferences(shape: lab.Shape, kubeconfig: string): Promise<string[]> {
  for (let attempt = 1; ; attempt++) {
    const differences = await compared(shape, kubeconfig)
    if (differences.length === 0 || attempt === 3) return differences
    await delay(10_000)
  }
}

async function compared(shape: lab.Shape, kubeconfig: string): Promise<string[]> {
  const on = (machine: string, script: string) => lab.exec(shape.name, machine, ['sh', '-c', script])
  const { stdout, stderr } = await rekey(['certs', '-i', lab.inventoryPath(shape.name), '--json'])
  if (!stdout) return [stderr]
  const { certificates: rows, notices } = JSON.parse(stdout) as { certificates: Row[]; notices: string[] }
  // Which groups count is told on layouts whose inventory has others.
  const differences: string[] = notices.filter(text => !text.startsWith('by the groups')).map(text => `notice: ${text}`)
  const facts = new Map<string, Facts>()
  const expected = new Set<string>()
  const authorities = new Map<string, string>()
  const note = (where: string, pem: string) => {
    const read = facts.get(pem) ?? readCertificate(pem)
    facts.set(pem, read)
    if (read.isAuthority) authorities.set(read.fingerprint, pem)
    expected.add(`${where} ${read.fingerprint}`)
  }
  const machines = shape.machines.filter(({ role }) => role === 'master' || role === 'node' || role === 'etcd')
  const reals = new Map<string, string>()
  for (const { name: machine } of machines) {
    for (const [path, pem] of found(await on(machine, everyFile))) note(`${machine}:${path}`, pem)
    for (const [port, pem] of found(await on(machine, everyPort))) note(`${machine} port ${port}`, pem)
    const paths = [
      ...new Set(rows.filter(({ kind, host }) => kind === 'file' && host === machine).map(one => one.place)),
    ]
    const real = await on(machine, `for f in ${paths.join(' ')}; do readlink -f "$f"; done`)
    for (const [index, one] of real.trim().split('\n').entries()) reals.set(`${machine}:${paths[index]}`, one)
  }
  for (const object of ['configmaps', 'secrets']) {
    const { items } = JSON.parse(await on('m1', `kubectl --kubeconfig ${kubeconfig} get ${object} -A -o json`)) as {
      items: { kind: string; metadata: { namespace: string; name: string }; data?: Record<string, string> }[]
    }
    for (const { kind, metadata, data = {} } of items) {
      const texts = Object.values(data).map(one =>
        kind === 'Secret' ? Buffer.from(one, 'base64').toString('latin1') : one,
      )
      for (const pem of texts.flatMap(text => blocksOf(text + decoded(text))))
        note(`${kind} ${metadata.namespace}/${metadata.name}`, pem)
    }
  }

  const byFingerprint = new Map([...facts].map(([pem, one]) => [one.fingerprint, { ...one, pem }]))
  const listed = new Set<string>()
  for (const row of rows) {
    const whereOf = {
      file: `${row.host}:${reals.get(row.where)}`,
      served: `${row.host} port ${row.place}`,
      api: row.where,
    }
    const where = whereOf[row.kind]
    listed.add(`${where} ${row.fingerprint}`)
    const real = byFingerprint.get(row.fingerprint)
    if (!real) differences.push(`not there: ${row.where} ${row.fingerprint}`)
    else differences.push(...wrongOf(row, real, authorities).map(what => `${row.where}: ${what}`))
    // A load balancer has what one of those behind it presents.
    const ofOthers = row.host !== undefined && !machines.some(({ name }) => name === row.host)
    if (!expected.has(`${where} ${row.fingerprint}`) && !ofOthers)
      differences.push(`not there: ${row.kind} ${where} ${row.fingerprint}`)
  }
  for (const one of expected) if (!listed.has(one)) differences.push(`missing: ${one}`)
  return differences
}

/** What a row says that openssl does not. */
function wrongOf(row: Row, real: Facts & { pem: string }, authorities: ReadonlyMap<string, string>): string[] {
  const wrong: string[] = []
  if (Date.parse(row.notAfter) !== real.notAfter) wrong.push(`until ${row.notAfter}`)
  const names = [...row.dnsNames, ...row.ipAddresses].sort().join()
  if (names !== [...real.names].sort().join()) wrong.push(`for ${names}, and openssl says ${real.names}`)
  if (row.isAuthority !== real.isAuthority) wrong.push(`${row.isAuthority ? 'a' : 'no'} CA`)
  const issuers = [...authorities].filter(([, ca]) => isSignedBy(real.pem, ca)).map(([fingerprint]) => fingerprint)
  const fits = row.issuerFingerprint === undefined ? issuers.length === 0 : issuers.includes(row.issuerFingerprint)
  if (!fits) wrong.push(`signed by ${row.issuerFingerprint}, and openssl says ${issuers}`)
  return wrong
}

/** The CAs of a kubeconfig that stands in an object. */
const decoded = (text: string) =>
  [...text.matchAll(/certificate-authority-data: *(\S+)/g)]
    .map(([, data = '']) => Buffer.from(data, 'base64').toString())
    .join('\n')

/** `== NAME` and what follows, block by block. */
function found(text: string): [name: string, pem: string][] {
  return text
    .split(/^== /m)
    .slice(1)
    .flatMap(section => blocksOf(section).map((pem): [string, string] => [section.split('\n', 1)[0] ?? '', pem]))
}

const blocksOf = (text: string): string[] =>
  text.match(/-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g)?.map(one => `${one}\n`) ?? []

const openssl = (words: readonly string[], input: string) =>
  execFileSync('openssl', words, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'ignore'] })

function readCertificate(pem: string): Facts {
  const words = ['-noout', '-fingerprint', '-sha256', '-enddate', '-ext', 'subjectAltName,basicConstraints']
  const text = openssl(['x509', ...words], pem)
  return {
    fingerprint: /Fingerprint=(\S+)/i.exec(text)?.[1] ?? '',
    notAfter: Date.parse(/notAfter=(.*)/.exec(text)?.[1] ?? ''),
    names: [...text.matchAll(/(?:DNS|IP Address):([^,\s]+)/g)].map(([, name = '']) => shortened(name)),
    isAuthority: text.includes('CA:TRUE'),
  }
}

/** An address as openssl writes it, as everybody else does. */
const shortened = (name: string) => (isIPv6(name) ? new URL(`http://[${name}]`).hostname.slice(1, -1) : name)

const verified = new Map<string, boolean>()

function isSignedBy(pem: string, ca: string): boolean {
  const known = verified.get(pem + ca)
  if (known !== undefined) return known
  let signed = true
  try {
    openssl(
      ['verify', '-partial_chain', '-no_check_time', '-no-CApath', '-no-CAstore', '-CAfile', scratchFile('ca.pem', ca)],
      pem,
    )
  } catch {
    signed = false
  }
  verified.set(pem + ca, signed)
  return signed
}
