// An API server's traffic handed over to another one, in the kernel of its own host: new connections that arrive for it, or that are made on
// its host to the Service of the API, go to the other; those that stand stay where they are, and end when their server does. It takes neither
// a load balancer nor kube-proxies to notice anything, and holds from the moment that it is made.
import { raw } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'

/** A port of an address. */
export interface Destination {
  readonly address: string
  readonly port: number
}

/** What is handed over, and to whom. */
export interface Handover {
  /** Where the API server of this host listens. */
  readonly port: number
  /** The other one, as this host reaches it. */
  readonly to: Destination
  /** The addresses of the Service `kubernetes`. */
  readonly services: readonly Destination[]
}

/** What all rules, the unit and the file of a handover are called. */
const name = 'rekey-handover'
const chains = {
  arriving: 'REKEY-ARRIVING',
  leaving: 'REKEY-LEAVING',
  masked: 'REKEY-MASKED',
  passing: 'REKEY-PASSING',
}
const jumps: readonly (readonly [table: 'nat' | 'filter', hook: string, chain: string])[] = [
  ['nat', 'PREROUTING', chains.arriving],
  ['nat', 'OUTPUT', chains.leaving],
  ['nat', 'POSTROUTING', chains.masked],
  ['filter', 'FORWARD', chains.passing],
]
const commands = ['iptables', 'ip6tables'] as const

const isSix = (address: string) => address.includes(':')

/** Seconds without a word of who handed over, after which the host takes its traffic back once its own server listens. */
const forsakenAfter = 60
/** Milliseconds between two such words. */
const every = 15_000

/**
 * The rules, as `iptables-restore` reads them. What the host's own processes ask at its own address is left alone where root or the user who
 * logs in asks: its kubelet means that very server, and so does whoever waits for it to be back. Only first packets are sent elsewhere: where nothing
 * made the kernel follow connections until now, as on masters without kube-proxy, it takes those that stand for new ones.
 */
export function handoverRules({ port, to, services }: Handover, login: number): string {
  const six = isSix(to.address)
  const target = `${six ? `[${to.address}]` : to.address}:${to.port}`
  const tcp = (destination: string, ...words: (string | number)[]) =>
    ['-p tcp', destination, '-m tcp', ...words].filter(Boolean).join(' ')
  const away = `-j DNAT --to-destination ${target}`
  const own = `${tcp('-m addrtype --dst-type LOCAL', '--dport', port, '--syn')} ${away}`
  const ofServices = services
    .filter(({ address }) => isSix(address) === six)
    .map(one => `${tcp(`-d ${one.address}`, '--dport', one.port, '--syn')} ${away}`)
  const owners = [...new Set([0, login])].map(uid => `-m owner --uid-owner ${uid} -j RETURN`)
  const there = tcp(`-d ${to.address}`, '--dport', to.port)
  const answers = tcp(`-s ${to.address}`, '--sport', to.port)
  const handed = '-m conntrack --ctstate DNAT'
  const rules: Record<string, readonly string[]> = {
    [chains.arriving]: [own, ...ofServices],
    [chains.leaving]: [...ofServices, `-d ${six ? '::1' : '127.0.0.0/8'} -j RETURN`, ...owners, own],
    // Answers must come back through here.
    [chains.masked]: [`${there} ${handed} -j MASQUERADE`],
    [chains.passing]: [`${there} ${handed} -j ACCEPT`, `${answers} ${handed} -j ACCEPT`],
  }
  const table = (wanted: 'nat' | 'filter') => {
    const own = jumps.filter(([one]) => one === wanted)
    return [
      `*${wanted}`,
      ...own.map(([, , chain]) => `:${chain} - [0:0]`),
      ...own.flatMap(([, , chain]) => (rules[chain] ?? []).map(rule => `-A ${chain} ${rule}`)),
      ...own.map(([, hook, chain]) => `-I ${hook} 1 -j ${chain}`),
      'COMMIT',
    ]
  }
  // Who is handed on must be let through first.
  return `${[...table('filter'), ...table('nat')].join('\n')}\n`
}

/** Takes the rules away, whatever there is of them. One family after the other: nothing to do is nothing wrong. */
const removal = commands
  .map(
    command => `command -v ${command} >/dev/null 2>&1 && {
${jumps.map(([table, hook, chain]) => `  while ${command} -w 5 -t ${table} -D ${hook} -j ${chain} 2>/dev/null; do :; done`).join('\n')}
${jumps.map(([table, , chain]) => `  ${command} -w 5 -t ${table} -F ${chain} 2>/dev/null; ${command} -w 5 -t ${table} -X ${chain} 2>/dev/null`).join('\n')}
}`,
  )
  .join('\n')

/** Whether something listens on a port, by what the kernel tells: there is no tool that every host has. */
const listens = (port: number) =>
  `grep -qE '^ *[0-9]+: [0-9A-F]+:${hexadecimal(port)} [0-9A-F]+:0000 0A ' /proc/net/tcp /proc/net/tcp6 2>/dev/null`

const hexadecimal = (port: number) => port.toString(16).toUpperCase().padStart(4, '0')

/** A script of the host, and with its time the sign that somebody is there who will take the traffic back. */
const sign = `/run/${name}`

/** Takes the traffic back where nobody is heard of any more who would, once the server has listened for half a minute. */
const guard = (port: number) => `up=0
while sleep 5; do
  [ -e ${sign} ] || exit 0
  if [ $(($(date +%s) - $(stat -c %Y ${sign}))) -lt ${forsakenAfter} ]; then up=0; continue; fi
  if ${listens(port)}; then up=$((up + 1)); else up=0; fi
  [ $up -lt 6 ] || break
done
${removal}
rm -f ${sign}
`

/** Traffic that is handed over. */
export interface HandedOver {
  /** How many connections were handed over so far. */
  count(): Promise<number>
  /** Takes it back, and proves it. */
  takeBack(): Promise<void>
}

const commandFor = (address: string): (typeof commands)[number] => (isSix(address) ? 'ip6tables' : 'iptables')

/** What a host lacks of what it takes to hand traffic over to an address, and the user who logs in there. */
export async function toolsOf({ $ }: HostSession, to: string): Promise<{ login: number; missing: string[] }> {
  const command = commandFor(to)
  const needed = [command, `${command}-restore`, 'systemd-run']
  const { stdout } = await $({ quiet: true })`for one in ${needed}; do command -v "$one" >/dev/null || echo "$one"; done
echo "\${SUDO_UID:-$(id -u)}"`
  const told = stdout.trim().split('\n')
  return { login: Number(told.at(-1)), missing: told.slice(0, -1) }
}

/**
 * Hands the traffic of this host's API server over. What is left of an earlier one is replaced. Where this process ends before it takes the
 * traffic back, the host does so itself, a minute later, as soon as its own server has listened for half a minute.
 * @throws HostFailedError where the host has not what it takes: iptables, systemd
 */
export async function handOver(session: HostSession, handover: Handover): Promise<HandedOver> {
  const { $, host } = session
  const command = commandFor(handover.to.address)
  const { login, missing } = await toolsOf(session, handover.to.address)
  if (missing.length > 0) {
    throw new HostFailedError(`the traffic of ${host.name} can't be handed over: it has no ${missing.join(', no ')}`, {
      code: 'handover.no-tools',
      host: host.name,
      hint: 'Install it there, or restart its API server in a window.',
    })
  }
  await takeBack(session)
  await $({ input: guard(handover.port) })`cat >${sign} && systemd-run --quiet --collect --unit=${name} /bin/sh ${sign}`
  try {
    await $({ input: handoverRules(handover, login) })`${raw(command)}-restore -w 5 --noflush`
  } catch (error) {
    await takeBack(session)
    throw new HostFailedError(`the traffic of ${host.name} can't be handed over: its ${command} refuses the rules`, {
      code: 'handover.refused',
      host: host.name,
      cause: error,
      hint: `Its kernel needs nat, conntrack and the matches addrtype and owner.`,
    })
  }
  const alive = setInterval(() => {
    $({ quiet: true, nothrow: true })`touch -c ${sign}`.then(
      () => {},
      // The host takes it back.
      () => {},
    )
  }, every)
  alive.unref()
  return {
    count: async () => {
      const { stdout } = await $({ quiet: true })`${raw(command)} -w 5 -t nat -nvxL ${chains.arriving}
${raw(command)} -w 5 -t nat -nvxL ${chains.leaving}`
      return handedOver(stdout)
    },
    takeBack: async () => {
      clearInterval(alive)
      await takeBack(session)
    },
  }
}

/** How many connections were handed over, by what `iptables -nvxL` shows of chains: a rule of nat sees the first packet of each. */
export function handedOver(listing: string): number {
  return listing
    .split('\n')
    .map(line => /^ *(\d+) +\d+ +DNAT /.exec(line)?.[1])
    .reduce((sum, count) => sum + Number(count ?? 0), 0)
}

/**
 * Takes back what was handed over; nothing where nothing was. Connections that were handed on stay with whom they were handed to.
 * @throws HostFailedError where rules are left
 */
export async function takeBack({ $, host }: HostSession): Promise<void> {
  const { stdout } = await $({ quiet: true })`${raw(removal)}
rm -f ${sign}; systemctl stop ${name} 2>/dev/null
for one in ${commands}; do command -v "$one-save" >/dev/null && "$one-save" 2>/dev/null | grep -F ' REKEY-'; done; :`
  if (stdout.trim() === '') return
  throw new HostFailedError(
    `rules are left on ${host.name} that hand its traffic over: ${stdout.trim().split('\n')[0]}`,
    {
      code: 'handover.left',
      host: host.name,
      hint: `Remove what iptables-save shows there with 'REKEY-' in it.`,
    },
  )
}

/** What is left of the connections to a port: whether it listens, and how many stand. */
export interface Connections {
  readonly listens: boolean
  readonly standing: number
}

/** The connections of a port, as the kernel of its host has them; those that are handed on are none. */
export async function connectionsOf({ $ }: HostSession, port: number): Promise<Connections> {
  const { stdout } = await $({ quiet: true })`awk -v port=${`:${hexadecimal(port)}`} '
$2 ~ port "$" && $4 == "0A" { listening++ }
$2 ~ port "$" && $4 == "01" { standing++ }
END { print listening + 0, standing + 0 }' /proc/net/tcp $(ls /proc/net/tcp6 2>/dev/null)`
  const [listening = 0, standing = 0] = stdout.trim().split(' ').map(Number)
  return { listens: listening > 0, standing }
}
