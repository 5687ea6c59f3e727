// The flags that a component goes by: of its command line, of etcd's environment, of its configuration file.
import { load } from 'js-yaml'
import { RekeyError } from '../../errors.ts'
import type { ComponentName } from './host-layout.ts'
import type { Flags } from './named-files.ts'

/** The flags among the words of a command line: `--name=value`, `--name value`, `--name`. */
export function flagsOfWords(words: readonly string[]): Record<string, string[]> {
  const flags: Record<string, string[]> = {}
  const add = (name: string, value: string) => {
    flags[name] = [...(flags[name] ?? []), value]
  }
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? ''
    const [, name = '', , value] = /^--?([A-Za-z0-9][\w.-]*)(=(.*))?$/s.exec(word) ?? []
    if (name === '') continue
    const next = words[at + 1]
    if (value !== undefined) add(name, value)
    else if (next === undefined || next.startsWith('-')) add(name, 'true')
    else {
      add(name, next)
      at++
    }
  }
  return flags
}

/** Of etcd's environment: `ETCD_TRUSTED_CA_FILE` is `trusted-ca-file`. Of what etcdctl is told there, the files. */
export function flagsOfEnvironment(environment: Readonly<Record<string, string>>): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) =>
      name.startsWith('ETCD_') && value !== ''
        ? [[name.slice(5).toLowerCase().replaceAll('_', '-'), [value]] as const]
        : [],
    ),
  )
}

type Tree = Record<string, unknown>

/** Where a flag stands in the configuration of a kubelet. */
const kubeletFields: Readonly<Record<string, string>> = {
  'client-ca-file': 'authentication.x509.clientCAFile',
  'tls-cert-file': 'tlsCertFile',
  'tls-private-key-file': 'tlsPrivateKeyFile',
  'server-tls-bootstrap': 'serverTLSBootstrap',
  'rotate-certificates': 'rotateCertificates',
  'pod-manifest-path': 'staticPodPath',
  'container-runtime-endpoint': 'containerRuntimeEndpoint',
  port: 'port',
  address: 'address',
  'healthz-port': 'healthzPort',
  'healthz-bind-address': 'healthzBindAddress',
}
const clientFields: Readonly<Record<string, string>> = {
  kubeconfig: 'clientConnection.kubeconfig',
  'healthz-bind-address': 'healthzBindAddress',
  'metrics-bind-address': 'metricsBindAddress',
}
const etcdSections = {
  'client-transport-security': {
    'cert-file': 'cert-file',
    'key-file': 'key-file',
    'trusted-ca-file': 'trusted-ca-file',
    'client-cert-auth': 'client-cert-auth',
  },
  'peer-transport-security': {
    'cert-file': 'peer-cert-file',
    'key-file': 'peer-key-file',
    'trusted-ca-file': 'peer-trusted-ca-file',
    'client-cert-auth': 'peer-client-cert-auth',
  },
} as const

/**
 * Of a configuration file, by the names of the flags that say the same; `where` names each by how the file has it. Throws `RekeyError`
 * where it can't be read.
 */
export function flagsOfConfiguration(
  component: ComponentName,
  text: string,
  source: string,
): { readonly flags: Record<string, string[]>; readonly where: Record<string, string> } {
  let tree: Tree
  try {
    tree = (load(text) ?? {}) as Tree
  } catch {
    throw new RekeyError(`${source} is not YAML`, { code: 'layout.configuration' })
  }
  const flags: Record<string, string[]> = {}
  const where: Record<string, string> = {}
  const set = (flag: string, field: string, value: unknown) => {
    if (value === undefined || value === null || value === '' || typeof value === 'object') return
    flags[flag] = [String(value)]
    where[flag] = field
  }
  if (component === 'etcd') {
    for (const [name, value] of Object.entries(tree)) set(name, name, value)
    for (const [section, names] of Object.entries(etcdSections)) {
      for (const [field, flag] of Object.entries(names)) {
        set(flag, `${section}.${field}`, (tree[section] as Tree | undefined)?.[field])
      }
    }
    return { flags, where }
  }
  const fields = component === 'kubelet' ? kubeletFields : clientFields
  for (const [flag, field] of Object.entries(fields)) {
    set(
      flag,
      field,
      field.split('.').reduce<unknown>((at, name) => (at as Tree | undefined)?.[name], tree),
    )
  }
  return { flags, where }
}

/** What differs between the flags that are written down and those that a process has, a sentence each. */
export function differences(written: Flags, running: Flags, source: string): string[] {
  const names = [...new Set([...Object.keys(written), ...Object.keys(running)])].sort()
  return names.flatMap(name => {
    const [then, now] = [written[name]?.join(' '), running[name]?.join(' ')]
    if (then === now) return []
    if (now === undefined) return [`${source} has --${name}=${then}, and its process does not`]
    if (then === undefined) return [`its process has --${name}=${now}, and ${source} does not`]
    return [`${source} has --${name}=${then}, and its process --${name}=${now}`]
  })
}
