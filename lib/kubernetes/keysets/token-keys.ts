// Which keys tokens of service accounts are signed and verified with: in files, in what each API server says, in tokens themselves. Reads only;
// no private key and no token leaves its machine.
import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { ownFile } from '../../package.ts'
import { digestOf } from '../../pki/certificates/bundle-text.ts'
import type { HostSession } from '../../playbook/model.ts'
import type { KubernetesApi } from '../api/api.ts'
import type { ComponentName, HostLayout } from '../layout/host-layout.ts'
import { tokenSecrets } from '../trust/tokens.ts'

/** A file that a component signs or verifies tokens with, and the public keys in it, in order: each the SHA-256 of its SPKI. */
export interface TokenKeyFile {
  readonly component: ComponentName
  /** Where it lies. */
  readonly path: string
  readonly signs: boolean
  readonly keys: readonly string[]
}

/** A token that somebody holds, and the key that signed it. */
export interface HeldToken {
  readonly where: string
  readonly host?: string
  readonly key: string
  /** The uid of the pod to which a kubelet gave it, and gives others; that of a Secret, and of a network plugin, no kubelet renews. */
  readonly pod?: string
}

/** What of a machine has to do with tokens. */
export interface TokenKeysOfHost {
  readonly files: readonly TokenKeyFile[]
  /** Those that its pods hold, and kubeconfigs of network plugins. */
  readonly tokens: readonly HeldToken[]
  /** When the CAs that a pod has beside a token were written there last, by the pod's uid: the latest, of several. */
  readonly written?: ReadonlyMap<string, Date>
}

/** Where a kubelet keeps the volumes of its pods, and more. */
export const kubeletRoot = ({ components }: Pick<HostLayout, 'components'>): string =>
  components.kubelet?.flags['root-dir']?.at(-1) ?? '/var/lib/kubelet'

/** Where network plugins have their kubeconfigs: Calico's holds a token. */
const cniFolder = '/etc/cni/net.d'

/** Reads the token keys of a machine, and by which keys the tokens on it are signed. What can't be read is told to `missed`. */
export async function tokenKeysOfHost(
  { $, host: { name: host } }: Pick<HostSession, '$' | 'host'>,
  { components }: HostLayout,
  missed: (text: string) => void,
  cni = cniFolder,
): Promise<TokenKeysOfHost> {
  const named = Object.values(components).flatMap(found =>
    (found?.files ?? []).flatMap(({ role, real }) =>
      role === 'service-account-sign' || role === 'service-account-verify'
        ? [{ component: found!.component, path: real, signs: role === 'service-account-sign' }]
        : [],
    ),
  )
  const folder = kubeletRoot({ components })
  if (named.length === 0 && !components.kubelet) return { files: [], tokens: [] }
  const script = readFileSync(ownFile('lib/kubernetes/keysets/find-token-keys.sh'), 'utf8')
  const paths = [...new Set(named.map(({ path }) => path))]
  const { stdout } = await $({ quiet: true })`sh -c ${script} rekey ${folder} ${cni} ${paths}`
  if (!stdout.endsWith('.. end\n')) missed(`${host}: not all keys of tokens were read`)
  const sections = new Map(
    stdout
      .split(/^\.\. /m, 1)
      .join()
      .split(/^== /m)
      .slice(1)
      .map(section => {
        const [path = '', ...lines] = section.split('\n')
        return [path, lines.join('\n')] as const
      }),
  )
  const files = named.map(file => ({ ...file, keys: publicKeysIn(sections.get(file.path) ?? '') }))
  for (const { path, keys, component } of files)
    if (keys.length === 0)
      missed(`${host}: which key is in ${path} is not known, with which ${component} signs or verifies tokens`)
  const tokens = [...stdout.matchAll(/^\.\. (\S+) (\/.*)$/gm)].flatMap(([, header = '', path = '']): HeldToken[] => {
    const key = keyOfHeader(header)
    const pod = /\/pods\/([^/]+)\/volumes\//.exec(path)?.[1]
    return key === undefined ? [] : [{ where: `${host}:${path}`, host, key, ...(pod !== undefined && { pod }) }]
  })
  const written = new Map<string, Date>()
  for (const [, time, uid = ''] of stdout.matchAll(/^~~ (\d+) \/.*\/pods\/([^/]+)\/volumes\/.*$/gm)) {
    const date = new Date(Number(time) * 1_000)
    if (date > (written.get(uid) ?? 0)) written.set(uid, date)
  }
  return { files, tokens, written }
}

/** The keys by which an API server verifies tokens now, as it says itself. */
export async function servedTokenKeys(api: KubernetesApi): Promise<string[]> {
  // It has a type of its own, and is given to nobody who asks for JSON.
  const { keys = [] } = JSON.parse(await api.getText('/openid/v1/jwks')) as { keys?: readonly JsonWebKey[] }
  return keys.flatMap(key => digestIn({ key, format: 'jwk' }))
}

/** By which keys the tokens are signed that Secrets hold. */
export async function tokensOfSecrets(api: KubernetesApi): Promise<HeldToken[]> {
  return (await tokenSecrets(api)).flatMap(({ namespace, name, token }) => {
    const key = keyOfToken(token.reveal())
    return key === undefined ? [] : [{ where: `Secret ${namespace}/${name}`, key }]
  })
}

/** The key that signed a token; undefined where that is none of Kubernetes'. */
export const keyOfToken = (token: string): string | undefined => keyOfHeader(token.split('.')[0] ?? '')

/** The key that signed a token, by its first part; undefined where that is none of Kubernetes'. */
export function keyOfHeader(header: string): string | undefined {
  try {
    const { kid } = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as { kid?: unknown }
    // It is the SHA-256 of the public key.
    const digest = Buffer.from(String(kid ?? ''), 'base64url')
    return digest.length === 32 ? digest.toString('hex') : undefined
  } catch {
    return undefined
  }
}

const blocks = /-----BEGIN (RSA PUBLIC KEY|PUBLIC KEY|CERTIFICATE)-----[^-]+-----END \1-----/g

function publicKeysIn(text: string): string[] {
  return [...new Set([...text.matchAll(blocks)].flatMap(([pem]) => digestIn(pem)))]
}

function digestIn(key: Parameters<typeof createPublicKey>[0]): string[] {
  try {
    return [digestOf(createPublicKey(key))]
  } catch {
    return []
  }
}
