// A certificate signed where the key of its CA lies: that key never leaves its host.
import type { Remote } from '../../connection/remote.ts'
import { HostFailedError } from '../../errors.ts'
import { parseCertificate } from './certificate.ts'

/** What is to be signed, and with what. */
export interface HostSigning {
  /** The host, for messages. */
  readonly host: string
  /** The request, PEM: its subject is taken over as it is, and nothing else of it. */
  readonly csr: string
  /** The CA's certificate, PEM, and where its key lies. */
  readonly authority: string
  readonly keyPath: string
  readonly seconds: number
}

/** How far a certificate is dated back, for machines whose clocks are behind. */
const datedBack = 60

const script = `umask 077
folder=$(mktemp -d) || exit
trap 'rm -rf "$folder"' EXIT
command -v openssl >/dev/null || { echo 'there is no openssl' >&2; exit 1; }
cd "$folder" && : >index && printf '%s' "$1" >request.pem && printf '%s' "$2" >ca.pem && printf '%s' "$6" >settings || exit
openssl ca -batch -config settings -cert ca.pem -keyfile "$3" -passin pass: -in request.pem -startdate "$4" -enddate "$5" -preserveDN -notext -out signed.pem </dev/null >said 2>&1 || {
  grep -v '^Using configuration' said >&2; exit 1
}
cat signed.pem`

const settings = `[ca]
default_ca = this
[this]
database = index
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = client
unique_subject = no
email_in_dn = yes
[any]
commonName = supplied
organizationName = optional
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
`

/**
 * Has openssl on a host sign a client's certificate with the key of a CA that lies there, for so many seconds from now by that host's clock.
 * @throws HostFailedError where it can't: there is no openssl, the key is not that of the certificate, the CA ends before
 */
export async function signOnHost({ $ }: { readonly $: Remote }, ask: HostSigning): Promise<string> {
  const { host, csr, authority, keyPath, seconds } = ask
  const refused = (why: string, hint?: string) =>
    new HostFailedError(`${host}: nothing can be signed with ${keyPath}: ${why}`, {
      code: 'pki.host-signing',
      host,
      hint,
    })
  const now = Number((await $({ quiet: true })`date -u +%s`).stdout.trim())
  const ends = new Date((now + seconds) * 1_000)
  const { notAfter } = parseCertificate(authority)
  if (ends > notAfter)
    throw refused(
      `its CA ends on ${notAfter.toISOString()}, and the certificate on ${ends.toISOString()}`,
      'Ask for less, or replace the CA first.',
    )
  const [from, to] = [stamp(new Date((now - datedBack) * 1_000)), stamp(ends)]
  const { exitCode, stdout, stderr } = await $({
    ...{ quiet: true, nothrow: true },
  })`sh -c ${script} rekey ${csr} ${authority} ${keyPath} ${from} ${to} ${settings}`
  if (exitCode !== 0 || !stdout.includes('-----BEGIN CERTIFICATE-----'))
    throw refused(stderr.trim() || `exit status ${exitCode}`)
  return parseCertificate(stdout, `${host}: what openssl signed`).pem
}

const stamp = (date: Date) => `${date.toISOString().slice(0, 19).replaceAll(/[-T:]/g, '')}Z`
