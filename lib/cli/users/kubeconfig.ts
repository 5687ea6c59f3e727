// `rekey kubeconfig`: what users of a cluster are handed: whom they are to trust now, and credentials where they are asked for.
import { resolve } from 'node:path'
import { Command, InvalidArgumentError, Option } from 'commander'
import { RekeyError } from '../../errors.ts'
import { clustersOf, kubeconfigText, type NamedCluster, withTrust } from '../../kubernetes/api/kubeconfig-text.ts'
import { give, tell } from '../../output/print.ts'
import { publicKeyOf } from '../../pki/certificates/bundle-text.ts'
import { parseCertificate } from '../../pki/certificates/certificate.ts'
import { parseDuration } from '../../playbook/duration.ts'
import { type ConnectionOptions, withConnectionOptions } from '../options/connection.ts'
import { type InventoryOptions, withInventoryOptions } from '../options/inventory.ts'
import { readOwnFile, requireFree, writeOwnFile } from '../options/own-file.ts'
import { settable } from '../options/settable.ts'
import { positiveInteger } from '../options/whole-number.ts'
import { type Reading, reading } from '../reading/cluster.ts'
import { type Administrator, asAdministrator, type FoundAccess, issueTo, knownOn, lookAtAccess } from './user-access.ts'

interface KubeconfigOptions extends InventoryOptions, Omit<ConnectionOptions, 'user'> {
  remoteUser?: string
  admin?: boolean
  user?: string
  group?: string[]
  ttl?: number
  merge?: string
  output?: string
  cluster?: string
  server?: string
  force?: boolean
  masters: string
  forks: number
}

/** Where it is written where nothing else is said, and how long credentials hold then. */
const usualFile = 'kubeconfig'
const usualTtl = '8h'

/** The command `rekey kubeconfig`, for `lib/cli/main.ts` to mount. */
export function kubeconfigCommand(): Command {
  const command = new Command('kubeconfig').description(
    'a kubeconfig with the CAs that users are to trust now, and with credentials where they are asked for',
  )
  const whole = withConnectionOptions(withInventoryOptions(command), { user: '-u, --remote-user <name>' })
    .addOption(
      new Option('--admin', 'credentials with the name and the groups of the administrator').conflicts([
        'user',
        'group',
      ]),
    )
    .option('--user <name>', 'credentials for somebody of this name')
    .option('--group <name>', 'who is in this group; may be given several times', collect)
    .option('--ttl <duration>', `how long the credentials hold (default: ${usualTtl})`, readDuration)
    .addOption(
      new Option(
        '--merge <file>',
        "give a cluster's entry in this kubeconfig the trust of now, and leave the rest",
      ).conflicts(['admin', 'user', 'group', 'ttl']),
    )
    .option('-o, --output <file>', `write it there (default: ${usualFile}; with --merge that file); - is stdout`)
    .option('--cluster <name>', 'what the cluster is called in it')
    .option(
      '--server <url>',
      'where users reach the API (default: api_server of the inventory, else as the administrator does)',
    )
    .option('--force', 'in place of a file that is there')
    .option('--masters <pattern>', 'the hosts that are read, and through which the API is asked', 'masters')
    .option('-f, --forks <number>', 'hosts that are read at the same time', positiveInteger, 16)
    .addHelpText(
      'after',
      `
The key is made here. What signs is the Vault of the inventory where it has the
key of the CA, else that key on a master, which stays there, else the API
(certificates.k8s.io) as the administrator.`,
    )
    .action(async (options: KubeconfigOptions) => {
      const { remoteUser, masters } = options
      const target = targetOf(options)
      process.exitCode = await reading(masters, { ...options, user: remoteUser }, cluster =>
        hand(cluster, options, target),
      )
    })
  return settable(whole, { forks: 'forks' })
}

const collect = (value: string, before: string[] = []) => [...before, value]

function readDuration(value: string): number {
  const duration = parseDuration(value)
  if (duration === undefined || duration < 60_000)
    throw new InvalidArgumentError('It must be a duration such as 8h, and a minute at least.')
  return duration
}

/** Where it goes, and the kubeconfig that is given the trust of now; whether that is the same file. */
interface Target {
  readonly output: string
  readonly before?: string
  readonly isOwn: boolean
}

/** Where it is to go, before anybody is asked anything. Throws `RekeyError` where the options don't go together, or a file can't be what it is to be. */
function targetOf({ admin, user, group, ttl, merge, output = merge ?? usualFile, force }: KubeconfigOptions): Target {
  const code = 'cli.kubeconfig'
  if (user === undefined && group !== undefined)
    throw new RekeyError('--group says in which groups a --user is', { code, hint: 'Add --user NAME.' })
  if (!admin && user === undefined && ttl !== undefined)
    throw new RekeyError('--ttl says how long credentials hold', { code, hint: 'Add --admin, or --user NAME.' })
  const before = merge === undefined ? undefined : readOwnFile(merge)
  const isOwn = merge !== undefined && resolve(output) === resolve(merge)
  if (output !== '-' && !isOwn) requireFree(output, force)
  return { output, isOwn, ...(before !== undefined && { before }) }
}

async function hand(cluster: Reading, options: KubeconfigOptions, target: Target): Promise<number> {
  const { output, before, isOwn } = target
  const found = await lookAtAccess(cluster)
  const text =
    before === undefined ? await made(cluster, found, options) : await merged(cluster, found, before, options)
  if (output === '-') give(text)
  else if (isOwn) {
    const isWritten = writeOwnFile(output, text, 'itself')
    tell(`${output} is ${isWritten ? 'written, for whom it was' : 'as it is to be, and is not written'}`)
  } else {
    writeOwnFile(output, text, options.force ? 'another' : 'nothing')
    tell(`${output} is written, for you alone`)
  }
  const { trusted, behind } = found.access
  tell(
    `It trusts ${trusted.map(({ id, state, certificates: [one] }) => `${id} (${one?.subject}, ${state})`).join(' and ')}`,
  )
  if (behind.length > 0) cluster.notice(`one of these CAs is not trusted yet, or any more, by ${behind.join(', ')}`)
  for (const notice of cluster.notices) tell(`Notice: ${notice}`)
  return cluster.missing()
}

/** A kubeconfig of its own. */
async function made(cluster: Reading, found: FoundAccess, options: KubeconfigOptions): Promise<string> {
  const { access, administrator } = found
  const server = serverOf(cluster, administrator, options)
  const reached = { name: options.cluster ?? administrator.cluster, server, bundle: access.bundle }
  const who = options.admin
    ? asAdministrator(administrator)
    : options.user === undefined
      ? undefined
      : { name: options.user, organizations: options.group ?? [] }
  if (!who) {
    await knownOn(cluster, found)
    return kubeconfigText(reached)
  }
  const { by, ...user } = await issueTo(cluster, found, who, options.ttl ?? readDuration(usualTtl))
  const groups = who.organizations.length > 0 ? ` (${who.organizations.join(', ')})` : ''
  tell(`${who.name}${groups} until ${parseCertificate(user.certificate).notAfter.toISOString()}, signed by ${by}`)
  tell(`${(await knownOn(cluster, found, user)).join(', ')}: the API server knows them by this name`)
  return kubeconfigText(reached, user)
}

/** Somebody's kubeconfig with the trust of now, which is seen to be that of API servers. */
async function merged(
  cluster: Reading,
  found: FoundAccess,
  before: string,
  options: KubeconfigOptions,
): Promise<string> {
  const { text, clusters } = withTrustOfNow(cluster, found, before, options)
  await knownOn(cluster, found)
  tell(`${text === before ? 'As it was' : 'Renewed'}: the CAs of ${clusters.join(', ')}`)
  return text
}

/**
 * The trust of now in the entries of this cluster: those of the name that is given, else those with one of its CAs, or its server. An address of
 * loopback is its server only where it is given by an option: what listens there on the machine of somebody else may be any cluster's.
 * @throws RekeyError where none of them is known to be its
 */
export function withTrustOfNow(
  cluster: Pick<Reading, 'masters'>,
  found: Pick<FoundAccess, 'access' | 'administrator'>,
  before: string,
  options: Pick<KubeconfigOptions, 'merge' | 'cluster' | 'server'>,
): ReturnType<typeof withTrust> {
  const { access, administrator } = found
  const file = options.merge ?? ''
  const keys = new Set(access.keyset.items.map(({ key }) => key))
  const known = [servedTo(cluster), administrator.server].filter(url => !isLoopback(url))
  const servers = new Set([options.server, ...known].flatMap(url => originOf(url) ?? []))
  const isMeant = ({ name, server, authorities }: NamedCluster) =>
    options.cluster === undefined
      ? authorities.some(pem => keys.has(publicKeyOf(pem) ?? '')) || servers.has(originOf(server) ?? '-')
      : name === options.cluster
  const renewed = withTrust(before, file, access.bundle, isMeant)
  if (renewed.clusters.length > 0) return renewed
  const there = clustersOf(before, file).map(({ name, server }) => `${name} (${server ?? 'no server'})`)
  throw new RekeyError(`none of the clusters in ${file} is known to be this one`, {
    code: 'kubeconfig.no-cluster',
    hint: there.length > 0 ? `Say by --cluster which it is: ${there.join(', ')}.` : 'It has none at all.',
  })
}

/** Where users reach the API. Throws `RekeyError` where all that is known is how its own machine does. */
function serverOf(cluster: Reading, administrator: Administrator, options: KubeconfigOptions): string {
  const server = options.server ?? servedTo(cluster) ?? administrator.server
  const origin = originOf(server)
  if (origin === undefined)
    throw new RekeyError(`${server} is no address of an API server`, {
      code: 'kubeconfig.server',
      hint: 'Write it as https://HOST:PORT.',
    })
  if (options.server !== undefined || !isLoopback(origin)) return server
  throw new RekeyError(`the administrator reaches the API at ${server}, and users can't`, {
    code: 'kubeconfig.server',
    hint: 'Say by --server, or by api_server in the inventory, where they do.',
  })
}

const servedTo = ({ masters: [master] }: Pick<Reading, 'masters'>): string | undefined =>
  typeof master?.vars['api_server'] === 'string' ? master.vars['api_server'] : undefined

/** Whether an address leads each machine to itself. */
const isLoopback = (url: string | undefined) =>
  /^(localhost|127\.|0\.0\.0\.0|\[::1?\])/.test(URL.parse(url ?? '')?.hostname ?? '')

function originOf(url: string | undefined): string | undefined {
  const parsed = URL.parse(url ?? '')
  return parsed?.protocol === 'https:' ? parsed.origin : undefined
}
