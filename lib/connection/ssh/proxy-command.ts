// A ProxyCommand: a program of this machine that is the way to a host.
import { spawn } from 'node:child_process'
import { Duplex } from 'node:stream'
import { RekeyError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import type { ConnectionSettings } from '../settings.ts'

/** Characters that are told of what such a program says beside the way: more is nobody's to read. */
const mostSaid = 65_536

/** What a shell would make something else of, and a name that begins like an option; OpenSSH refuses the same (CVE-2023-51385). */
const unfit = /^-|[\s'"`$\\;&<>|(){},\x00-\x1f\x7f]/

/**
 * The line that a shell runs for a ProxyCommand: `%h`, `%n`, `%p`, `%r` and `%%` are replaced.
 * @throws RekeyError where the host's address or user would be more than a word there
 */
export function proxyLine({ address, port, user }: ConnectionSettings, command: string): string {
  const tokens: Record<string, string> = { '%h': address, '%p': String(port), '%r': user, '%n': address, '%%': '%' }
  return command.replace(/%[hprn%]/g, token => {
    const value = tokens[token] ?? token
    if (!unfit.test(value)) return value
    throw new RekeyError(`${JSON.stringify(value)} can't stand for ${token} in a ProxyCommand: a shell would run it`, {
      code: 'connection.proxy-value',
      hint: 'Look at ansible_host and ansible_user of this host: names and addresses have no such characters.',
    })
  })
}

/** Starts a ProxyCommand as ssh_config(5) describes it; its stdin and stdout are the way to the host. */
export function startProxy(settings: ConnectionSettings, command: string): { stream: Duplex; end: () => void } {
  const child = spawn('/bin/sh', ['-c', `exec ${proxyLine(settings, command)}`], { stdio: ['pipe', 'pipe', 'pipe'] })
  const stream = Duplex.from({ writable: child.stdin, readable: child.stdout })
  let left = mostSaid
  // What the server at its other end says before it lets anybody in comes this way, too.
  child.stderr.setEncoding('utf8').on('data', (said: string) => {
    for (const line of said.slice(0, left).split('\n')) {
      const words = foreignWords(line, 1_000)
      if (words !== '') process.stderr.write(`${words}\n`)
    }
    left -= Math.min(left, said.length)
  })
  // Whoever reads the stream sees its end; that the program could not be started is the same to it.
  child.on('error', error => stream.destroy(error))
  stream.on('error', () => {})
  return { stream, end: () => void child.kill() }
}
