// `waitForPort`: waits until a port answers, no longer does, or nobody is connected to it any more.
import { connect as connectTcp, isIP } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { RekeyError } from '../../errors.ts'
import { type StepContext, unchanged } from '../../playbook/model.ts'
import { operation } from '../operation.ts'
import { checkedOptions, type Kind, type Kinds, oneOf, text, wholeNumber, wrongOptions } from '../options.ts'
import { waitFor } from '../wait.ts'

/** What is waited for. */
export interface WaitForPortOptions {
  readonly port: number
  /** Its address. 127.0.0.1 where nothing is said, as the host sees it; from here, the address that the inventory has for the host. */
  readonly host?: string
  /** Who tries to connect: the host, or this machine. The host where nothing is said. */
  readonly from?: 'host' | 'here'
  /**
   * `started` (or `present`): somebody takes connections. `stopped` (or `absent`): nobody does. `drained`: nobody is connected to it on the
   * host, and no connection still ends. `started` where nothing is said.
   */
  readonly state?: 'started' | 'present' | 'stopped' | 'absent' | 'drained'
  /** Milliseconds until it has failed: 300,000 where nothing is said. */
  readonly timeout?: number
  /** Milliseconds for one try to connect: 5,000 where nothing is said. */
  readonly connectTimeout?: number
  /** Milliseconds before the first try of a step that has to wait. */
  readonly delay?: number
  /** Milliseconds between two tries: 1,000 where nothing is said. */
  readonly sleep?: number
  /** With `drained`: addresses whose connections don't count. */
  readonly excludeHosts?: readonly string[]
}

/** Waits for a port. Changes nothing; in `--check` it looks once. */
export const waitForPort = operation<WaitForPortOptions, unknown>({
  name: 'waitForPort',
  check: given => checkTogether(checkedOptions<WaitForPortOptions>('waitForPort', given, kinds)),
  look: async (context, wanted) => {
    const so = await Promise.all(wanted.map(options => isSo(context, options)))
    const due = wanted.filter((_, index) => !so[index])
    return {
      would: due.map(options => `wait for ${awaited(options)}`),
      result: undefined,
      apply: async () => {
        await Promise.all(due.map(options => wait(context, options)))
        return unchanged()
      },
    }
  },
  irreversible: 'it only waited',
})

/** Times are milliseconds, as everywhere in a playbook. */
export const milliseconds: Kind = {
  words: 'a number of milliseconds',
  fits: value => typeof value === 'number' && value >= 0 && Number.isFinite(value),
}

const address = { words: 'an IP address', fits: (value: unknown) => typeof value === 'string' && isIP(value) !== 0 }

const kinds: Kinds<WaitForPortOptions> = {
  port: {
    words: 'a whole number from 1 to 65535',
    fits: value => wholeNumber.fits(value) && value !== 0 && (value as number) < 65_536,
    required: true,
  },
  host: text,
  from: oneOf('host', 'here'),
  state: oneOf('started', 'present', 'stopped', 'absent', 'drained'),
  timeout: milliseconds,
  connectTimeout: milliseconds,
  delay: milliseconds,
  sleep: milliseconds,
  excludeHosts: {
    words: 'a list of IP addresses',
    fits: value => Array.isArray(value) && value.every(address.fits),
  },
}

function checkTogether(options: WaitForPortOptions): WaitForPortOptions {
  const { state, from, host, excludeHosts } = options
  const wrong = (what: string, hint?: string) => wrongOptions(`waitForPort(): ${what}`, hint)
  if (state !== 'drained') {
    if (excludeHosts) throw wrong('excludeHosts goes with state drained only')
    return options
  }
  if (from === 'here') throw wrong('connections are counted on the host', "Leave out from: 'here'.")
  if (host !== undefined && !address.fits(host))
    throw wrong('drained needs an IP address as host', 'All of them: 0.0.0.0.')
  return options
}

async function wait(context: StepContext, options: WaitForPortOptions): Promise<void> {
  const { timeout = 300_000, sleep = 1_000, delay: first = 0 } = options
  const { signal, host } = context
  await delay(first, undefined, { signal })
  await waitFor(awaited(options), { within: timeout, every: sleep, signal, host: host.name }, () =>
    isSo(context, options),
  )
}

const awaited = ({ port, host = '127.0.0.1', from = 'host', state = 'started' }: WaitForPortOptions) =>
  `${isIP(host) === 6 ? `[${host}]` : host}:${port} to be ${state}${from === 'here' ? ', from here' : ''}`

async function isSo(context: StepContext, options: WaitForPortOptions): Promise<boolean> {
  const { state = 'started' } = options
  if (state === 'drained') return (await connections(context, options)) === 0
  return (await answers(context, options)) === (state === 'started' || state === 'present')
}

/** Whether somebody takes a connection. Over the host's own connection: no program is needed there. */
async function answers(context: StepContext, options: WaitForPortOptions): Promise<boolean> {
  const { port, from, connectTimeout = 5_000 } = options
  const opening =
    from === 'here'
      ? connectHere(options.host ?? context.host.connection.address, port)
      : context.forward(options.host ?? '127.0.0.1', port)
  // It may open, or fail, after nobody waits for it any more.
  const opened = opening.then(
    stream => {
      stream.on('error', () => {}).destroy()
      return true
    },
    (error: Error) => {
      if (isRefusedByHost(error)) throw error
      return false
    },
  )
  const late = new AbortController()
  const result = await Promise.race([opened, delay(connectTimeout, false, { signal: late.signal }).catch(() => false)])
  late.abort()
  return result
}

function connectHere(host: string, port: number): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = connectTcp({ host, port })
    socket.once('connect', () => resolve(socket)).once('error', reject)
  })
}

/** Waiting would not help. */
const isRefusedByHost = (error: Error) => error instanceof RekeyError && error.code === 'connection.forward-prohibited'

/** How many are connected to the port on the host, or about to be, or not yet done with. */
async function connections({ $ }: StepContext, options: WaitForPortOptions): Promise<number> {
  const { port, host = '127.0.0.1', excludeHosts = [] } = options
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  const pattern = `^ *[0-9]+: [0-9A-F]+:${hex} [0-9A-F]+:[0-9A-F]+ 0[1-6] `
  const { stdout } = await $({ quiet: true, nothrow: true })`grep -shE ${pattern} /proc/net/tcp /proc/net/tcp6`
  const [own, excluded] = [kernelNames(host), excludeHosts.flatMap(kernelNames)]
  return stdout
    .split('\n')
    .filter(Boolean)
    .map(line => line.trim().split(/\s+/))
    .filter(([, local = '', remote = '']) => {
      const [at, whom] = [local, remote].map(one => one.split(':')[0]!)
      return own.some(one => at!.endsWith(one)) && !excluded.includes(whom!)
    }).length
}

/** How /proc/net/tcp and tcp6 name an address: an IPv4 one also as it is written in IPv6. All addresses are the end of each. */
function kernelNames(ip: string): string[] {
  if (ip === '0.0.0.0' || ip === '::') return ['']
  const swapped = (bytes: readonly number[]) =>
    bytes
      .map((_, index) => bytes[(index & ~3) + 3 - (index & 3)]!.toString(16).padStart(2, '0'))
      .join('')
      .toUpperCase()
  const bytesOf4 = (text: string) => text.split('.').map(Number)
  if (isIP(ip) === 4) return [swapped(bytesOf4(ip)), `0000000000000000FFFF0000${swapped(bytesOf4(ip))}`]
  const [head = '', tail] = ip
    .replace(/(?<![\d.])[\d.]+$/, end => {
      if (!end.includes('.')) return end
      const [a, b, c, d] = bytesOf4(end) as [number, number, number, number]
      return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
    })
    .split('::')
  const groups = (text: string) =>
    text
      .split(':')
      .filter(Boolean)
      .map(group => Number.parseInt(group, 16))
  const [first, last] = [groups(head), groups(tail ?? '')]
  const all = [...first, ...Array.from({ length: 8 - first.length - last.length }, () => 0), ...last]
  return [swapped(all.flatMap(group => [group >> 8, group & 255]))]
}
