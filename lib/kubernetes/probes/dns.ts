// A question to a DNS server over TCP (RFC 1035), through a stream that somebody else opens.
import type { Duplex } from 'node:stream'

/** Milliseconds. */
const usualPatience = 5_000

/** What the code of an answer means that is none: RFC 1035, 4.1.1. A name that is not there was looked for, and so is an answer. */
const failures: Readonly<Record<number, string>> = { 1: 'FORMERR', 2: 'SERVFAIL', 4: 'NOTIMP', 5: 'REFUSED' }

/**
 * Asks whose an address is. A server of a cluster knows its Services by their addresses, whatever the cluster's domain; a name without the domain
 * it would ask somebody else for.
 * @param open a TCP stream to the server
 * @param address IPv4 or IPv6
 * @param patience milliseconds that an answer may take
 * @returns what was answered, in words
 * @throws Error where nothing is, or an error
 */
export async function askDns(open: () => Promise<Duplex>, address: string, patience = usualPatience): Promise<string> {
  const socket = await open()
  try {
    return await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer within ${patience / 1_000} s`)), patience)
      let held = Buffer.alloc(0)
      const settle = (end: () => void) => {
        clearTimeout(timer)
        end()
      }
      socket.on('error', error => settle(() => reject(error)))
      socket.on('close', () => settle(() => reject(new Error('it hung up'))))
      socket.on('data', (chunk: Buffer) => {
        held = Buffer.concat([held, chunk])
        if (held.length < 2 || held.length < 2 + held.readUInt16BE(0)) return
        settle(() => {
          try {
            resolve(told(held.subarray(2)))
          } catch (error) {
            reject(error as Error)
          }
        })
      })
      socket.write(question(reverseName(address)))
    })
  } finally {
    socket.destroy()
  }
}

const id = 0x7265

/** The name under which DNS has what is known of an address: RFC 1035, 3.5, and RFC 3596, 2.5. */
export function reverseName(address: string): string {
  if (!address.includes(':')) return `${address.split('.').reverse().join('.')}.in-addr.arpa`
  const [before = [], after = []] = address.split('::').map(half => half.split(':').filter(Boolean))
  const groups = [...before, ...Array(8 - before.length - after.length).fill('0'), ...after]
  const digits = groups.map(group => group.padStart(4, '0')).join('')
  return `${[...digits].reverse().join('.')}.ip6.arpa`
}

/** One question for a PTR record, with its length before it; the empty label at its end keeps the name as it is. */
function question(name: string): Buffer {
  const labels = name.split('.').map(label => Buffer.from([label.length, ...Buffer.from(label, 'latin1')]))
  const head = Buffer.from([id >> 8, id & 0xff, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0])
  const body = Buffer.concat([head, ...labels, Buffer.from([0, 0, 12, 0, 1])])
  const length = Buffer.alloc(2)
  length.writeUInt16BE(body.length)
  return Buffer.concat([length, body])
}

function told(answer: Buffer): string {
  if (answer.length < 12 || answer.readUInt16BE(0) !== id || ((answer[2] ?? 0) & 0x80) === 0)
    throw new Error('it answers something that is no answer')
  const code = (answer[3] ?? 0) & 0x0f
  const failure = failures[code]
  if (failure !== undefined) throw new Error(`it answers ${failure}`)
  return 'answers'
}
