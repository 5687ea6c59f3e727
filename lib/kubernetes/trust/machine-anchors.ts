// Whom a whole machine trusts, whatever it does: what programs read is made of the files that administrators put into a folder, by a command of the
// machine (`isAnchor` says which folders).
import { type PublicKeys, publicKeysOf } from '../../pki/certificates/bundle-text.ts'
import type { HostSession } from '../../playbook/model.ts'

// Debian makes links by the hashes of names only where files were added or removed, and a new CA may have another name. It leaves the link to a
// file that was taken away.
const update = `
if command -v update-ca-certificates >/dev/null; then
  update-ca-certificates && for link in /etc/ssl/certs/*.pem; do
    if [ -L "$link" ] && [ ! -e "$link" ]; then
      case $(readlink "$link") in /usr/local/share/ca-certificates/*) rm -f "$link" ;; esac
    fi
  done && { [ ! -f /etc/debian_version ] || ! command -v openssl >/dev/null || openssl rehash /etc/ssl/certs; }
elif command -v update-ca-trust >/dev/null; then
  update-ca-trust extract
else
  echo 'there is neither update-ca-certificates nor update-ca-trust'; false
fi >&2`

/** What programs read, of Debian, Red Hat, and SUSE. */
const bundles = [
  ...['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem'],
  '/var/lib/ca-certificates/ca-bundle.pem',
]

/** Has a machine trust what lies in its folder of CAs now. Returns whether its command said that it did. */
export async function updateAnchors({ $ }: Pick<HostSession, '$'>): Promise<boolean> {
  return (await $({ nothrow: true })`sh -c ${update}`).exitCode === 0
}

/** The keys of the CAs that programs on a machine are told to trust. */
export async function keysOfAnchors({ $ }: Pick<HostSession, '$'>): Promise<PublicKeys> {
  return publicKeysOf((await $({ nothrow: true, quiet: true })`cat ${bundles} 2>/dev/null`).stdout)
}
