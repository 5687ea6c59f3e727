// How the etcd of a host is reached from that host, by what was found of it: addresses, identities, where its data lies.
import { HostFailedError } from '../../errors.ts'
import type { FoundComponent, HostLayout } from '../layout/host-layout.ts'
import { reachable } from '../layout/named-files.ts'
import { fileOf } from './files.ts'

/** A place where something listens. */
export interface ListensAt {
  readonly tls: boolean
  readonly address: string
  readonly port: number
}

/** A certificate and its key, as files. */
export interface Identity {
  readonly certificate: string
  readonly key: string
}

/** How an etcd is asked, on its host. */
export interface EtcdAccess {
  readonly client: ListensAt
  /** Where peers are served, which takes no quorum. */
  readonly peer: ListensAt
  /** Where it tells its health without a certificate, where it was given such a place. */
  readonly metrics?: ListensAt
  /** Whom clients trust, a file; none where it is asked without TLS. */
  readonly ca?: string
  /** Pairs of files that it may be asked with, the best first. Not all of them need be there. */
  readonly identities: readonly Identity[]
  /** What its peers present to it, where they do. */
  readonly peerIdentity?: Identity
  readonly data: string
}

/** How the etcd of a host is reached. Throws `HostFailedError` where none was found. */
export function etcdAccess({ host, components }: HostLayout): EtcdAccess {
  const { etcd, 'kube-apiserver': apiServer } = components
  if (!etcd) throw new HostFailedError(`no etcd was found on ${host}`, { code: 'etcd.none', host })
  const client = best(etcd, 'listen-client-urls', 'http://localhost:2379')
  const metrics = listens(etcd, 'listen-metrics-urls').find(({ tls }) => !tls)
  const ca = fileOf(etcd, 'etcd-ca') ?? (apiServer && fileOf(apiServer, 'etcd-ca')) ?? fileOf(etcd, 'client-ca')
  const peer = best(etcd, 'listen-peer-urls', 'http://localhost:2380')
  const peerIdentity = pairOf(fileOf(etcd, 'peer'))
  return {
    client,
    peer,
    ...(metrics && { metrics }),
    ...(client.tls && ca && { ca: ca.path }),
    identities: client.tls ? identities(etcd, apiServer) : [],
    ...(peer.tls && peerIdentity && { peerIdentity }),
    data: etcd.flags['data-dir']?.at(-1) ?? '/var/lib/etcd',
  }
}

/** Where the etcd of a host knows clients by certificates, though it may be reached nearer without: all such listeners of a member go by the same CA. */
export const etcdByTls = ({ components: { etcd } }: HostLayout): ListensAt | undefined =>
  etcd && nearest(listens(etcd, 'listen-client-urls').filter(({ tls }) => tls))

/** Where an API server keeps everything, by its flags: `/registry/`. */
export const registryOf = (flags: FoundComponent['flags']) =>
  `/${(flags['etcd-prefix']?.at(-1) ?? '/registry').replace(/^\/|\/$/g, '')}/`

/** What it takes to ask an etcd as a client. */
export type EtcdClientAccess = Pick<EtcdAccess, 'client' | 'ca' | 'identities'>

/**
 * How an API server asks its etcds, that of `--etcd-servers` first, then those of single resources (`--etcd-servers-overrides`): for machines on
 * which etcd runs in a way of its own.
 */
export function etcdAccessesOf(apiServer: FoundComponent): EtcdClientAccess[] {
  const { flags } = apiServer
  // GROUP/RESOURCE#SERVER;SERVER, GROUP/RESOURCE#…
  const overrides = (flags['etcd-servers-overrides'] ?? [])
    .flatMap(value => value.split(','))
    .map(one => one.slice(one.indexOf('#') + 1).split(';'))
  const main = (flags['etcd-servers'] ?? []).flatMap(value => value.split(','))
  const ca = fileOf(apiServer, 'etcd-ca')?.path
  const identity = pairOf(fileOf(apiServer, 'etcd-client'))
  const seen = new Set<string>()
  return [main, ...overrides].flatMap(urls => {
    const client = nearest(urls.filter(Boolean).map(parse))
    if (!client || seen.has(urlOf(client))) return []
    seen.add(urlOf(client))
    return [
      { client, ...(client.tls && ca !== undefined && { ca }), identities: client.tls && identity ? [identity] : [] },
    ]
  })
}

/** A place as a URL. */
export const urlOf = ({ tls, address, port }: ListensAt) =>
  `${tls ? 'https' : 'http'}://${address.includes(':') ? `[${address}]` : address}:${port}`

/**
 * Made for asking: what its environment names for etcdctl, kubeadm's for health checks. Then what the API server asks with, and at last what
 * it serves with, which most layouts make for both.
 */
function identities(etcd: FoundComponent, apiServer: FoundComponent | undefined) {
  const serving = fileOf(etcd, 'serving')
  const folder = serving?.path.replace(/\/[^/]*$/, '')
  return [
    pairOf(fileOf(etcd, 'etcd-client')),
    folder === undefined
      ? undefined
      : { certificate: `${folder}/healthcheck-client.crt`, key: `${folder}/healthcheck-client.key` },
    pairOf(apiServer && fileOf(apiServer, 'etcd-client')),
    pairOf(serving),
  ].filter(one => one !== undefined)
}

const pairOf = (file: ReturnType<typeof fileOf>) => file?.key && { certificate: file.path, key: file.key.path }

/** Where it listens by a flag, by the first address of loopback where it has one. */
function best(etcd: FoundComponent, flag: string, usual: string): ListensAt {
  return nearest(listens(etcd, flag)) ?? parse(usual)
}

function nearest(all: readonly ListensAt[]): ListensAt | undefined {
  const local = all.filter(({ address }) => /^(127\.|localhost$|::1$)/.test(address))
  // Where some listen without TLS beside those with it, the ones with it are asked: the others may be shut one day.
  return local.find(({ tls }) => tls) ?? local[0] ?? all.find(({ tls }) => tls) ?? all[0]
}

const listens = ({ flags }: FoundComponent, flag: string) =>
  (flags[flag] ?? [])
    .flatMap(value => value.split(','))
    .filter(Boolean)
    .map(parse)

function parse(url: string): ListensAt {
  const { protocol, hostname, port } = new URL(url)
  return {
    tls: protocol === 'https:',
    address: reachable(hostname.replace(/^\[|\]$/g, '')),
    port: Number(port) || 2379,
  }
}
