// A lab's cluster judged from outside once its CAs were signed anew: the same to everybody, for a longer time.
import { strict as assert } from 'node:assert'
import { X509Certificate } from 'node:crypto'
import { join } from 'node:path'
import { tryCommand } from '../../lib/lab/command.ts'
import type * as lab from '../../lib/lab/index.ts'
import {
  assertBundles,
  assertNoRunToken,
  assertNoSecretKept,
  assertOldClients,
  assertWell,
  filesOf,
  kubectlOnM1,
  machinesOf,
  type Old,
  on,
  openssl,
  portsOf,
  scratch,
  statusWithOldToken,
} from './_outside.ts'
import { type Places, placesOf } from './_places.ts'

/**
 * Throws unless the CAs hold longer and are the same to everybody: name, key and key identifier are those of before, everything that they
 * signed lies where it lay, byte for byte, and holds under the new certificates alone, on disks and on ports; whoever was let in is let in.
 * @param folder of the run
 */
export async function assertRenewed(shape: lab.Shape, folder: string, old: Old): Promise<void> {
  const places = placesOf(shape)
  const paths = Object.values(places.authorities)
  const now = await on(shape, 'm1', `cat ${paths.join(' ')}`)
  const told = async (pem: string) => {
    const words = ['x509', '-noout', '-subject', '-issuer', '-pubkey', '-ext', 'subjectKeyIdentifier,basicConstraints']
    const { code, stdout } = await tryCommand('openssl', [...words, '-in', scratch('told.crt', pem)])
    assert.equal(code, 0)
    return stdout
  }
  const [befores, afters] = [old.authorities, now].map(
    text => text.match(/-----BEGIN[\s\S]*?END CERTIFICATE-----/g) ?? [],
  )
  assert.equal(afters?.length, paths.length)
  for (const [index, pem] of (afters ?? []).entries()) {
    const before = befores?.[index] ?? ''
    assert.equal(await told(pem), await told(before), paths[index])
    const [from, to] = [before, pem].map(one => new Date(new X509Certificate(one).validTo))
    assert.ok(from && to && to > from, paths[index])
  }
  const changed = await filesOf(shape)
  for (const { name: machine } of machinesOf(shape)) {
    const before = new Set(old.files[machine]?.split('\n'))
    const others = (changed[machine] ?? '')
      .split('\n')
      .flatMap(line => (before.has(line) ? [] : [line.split(' ')[0] ?? '']))
      .filter(path => !/ca\.(crt|pem)$|\.conf$/.test(path))
    assert.deepEqual(others, [], machine)
    const held = await on(shape, machine, allUnder(places, now))
    assert.equal(held, '', machine)
  }
  const authorities = {
    kubernetes: scratch('ca.crt', await on(shape, 'm1', `cat ${places.authorities.kubernetes}`)),
    etcd: scratch('etcd-ca.crt', await on(shape, 'm1', `cat ${places.authorities.etcd}`)),
  }
  for (const one of machinesOf(shape)) {
    // A kubelet that nobody rotated yet presents a certificate that it signed itself.
    for (const [port, authority] of portsOf(shape, one).filter(([one]) => one !== 10250))
      assert.match(await openssl(`${one.address}:${port}`, authorities[authority]), /Verification: OK/, `${port}`)
  }
  // Both the kubeconfig with the new certificate of the CA and that of before, which trusts the old one.
  for (const kubeconfig of [
    join(folder, 'admin.conf'),
    scratch('admin.conf', await on(shape, 'm1', 'cat /root/old-admin.conf')),
  ])
    await assertWell(shape, kubeconfig, old)
  await assertBundles(kubectlOnM1(shape), await on(shape, 'm1', `cat ${paths[0]}`), old.otherAuthority, 'rotated')
  assert.equal(await statusWithOldToken(shape), '403', 'the old token')
  await assertOldClients(shape, { web: '200', etcd: '200' })
  await assertNoRunToken(shape)
  assertNoSecretKept(folder)
}

/**
 * A script that names what is not under these CAs by openssl, of all that lies on a machine: certificates, and those in kubeconfigs, whose
 * certificates of clients are those of before; a kubelet may have signed one itself.
 */
const allUnder = ({ touched, kubeconfig }: Places, authorities: string) => `cat >/tmp/new-ca.crt <<'END'
${authorities.trim()}
END
under() { openssl verify -no-CApath -no-CAstore -CAfile /tmp/new-ca.crt "$@" >/dev/null 2>&1; }
for f in $(find ${touched.join(' ')} -name '*.crt' -o -name '*.pem' | sort); do
  case "$f" in */kubelet.crt|*-key.pem) continue ;; esac
  under "$f" || echo "$f"
done
for f in $(find ${touched.join(' ')} -type f -name '*.conf' | sort); do
  for data in certificate-authority client-certificate; do
    grep -q "$data-data: " "$f" || continue
    sed -n "s/ *$data-data: //p" "$f" | base64 -d >/tmp/held.crt
    under /tmp/held.crt || echo "$f: $data"
  done
done
if [ -f /root/old-admin.conf ]; then
  for f in ${kubeconfig} /root/old-admin.conf; do sed -n 's/ *client-certificate-data: //p' "$f" | sha256sum; done | uniq | sed 1d
fi
find ${touched.join(' ')} -name '.rekey*'; rm -f /tmp/new-ca.crt /tmp/held.crt; true`
