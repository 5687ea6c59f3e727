// The certificates that etcd-manager keeps on its volume, beside the stand-in for kops: it makes those that are missing, and keeps what is there.
import { X509Certificate } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { authorityFile, type State } from './state.ts'

/** Each by the keyset that signs it. */
const certificates: Readonly<Record<string, string>> = {
  'clients/server': 'etcd-clients-ca',
  'peers/me': 'etcd-peers-ca-main',
}
export const etcdKeysets = Object.values(certificates)

const volume = (store: string) => join(store, 'mnt', 'a', 'pki', 'x')

/** What a CA that is not made yet has signed lies beside it. */
export const leafFile = (store: string, keyset: string, id: string) =>
  authorityFile(store, keyset, id).replace(/pem$/, 'leaf.pem')

/** Makes those that are missing, by the CAs that sign; by the first ones where nobody has told it of others. */
export function makeEtcdCertificates(store: string, { keysets, knobs }: State): void {
  for (const [name, keyset] of Object.entries(certificates)) {
    const set = keysets[keyset]
    const own = join(volume(store), name)
    if (!set || existsSync(`${own}.crt`)) continue
    mkdirSync(dirname(own), { recursive: true })
    const id = knobs['etcdUntold'] ? idsOf(store, keyset)[0]! : set.primary
    writeFileSync(`${own}.crt`, readFileSync(leafFile(store, keyset, id)))
    writeFileSync(`${own}.key`, `that of ${id}`)
  }
}

const idsOf = (store: string, keyset: string) =>
  readdirSync(dirname(authorityFile(store, keyset, '')))
    .filter(file => /^\d+\.pem$/.test(file))
    .map(file => basename(file, '.pem'))
    .sort()

/** The ids of the CAs that have signed them. */
export function signersOfEtcd(store: string): (string | undefined)[] {
  return Object.entries(certificates).map(([name, keyset]) => {
    const leaf = new X509Certificate(readFileSync(join(volume(store), `${name}.crt`)))
    return idsOf(store, keyset).find(id =>
      leaf.verify(new X509Certificate(readFileSync(authorityFile(store, keyset, id))).publicKey),
    )
  })
}
