// A ProxyCommand: a program of this machine that is the way to a host.
import { spawn } from 'node:child_process'
import { Duplex } from 'node:stream'
import type { ConnectionSettings } from './settings.ts'

/** Starts a ProxyCommand as ssh_config(5) describes it; its stdin and stdout are the way to the host. */
export function startProxy(
  { address, port, user }: ConnectionSettings,
  command: string,
): { stream: Duplex; end: () => void } {
  const tokens: Record<string, string> = { '%h': address, '%p': String(port), '%r': user, '%n': address, '%%': '%' }
  const line = command.replace(/%[hprn%]/g, token => tokens[token] ?? token)
  const child = spawn('/bin/sh', ['-c', `exec ${line}`], { stdio: ['pipe', 'pipe', 'inherit'] })
  const stream = Duplex.from({ writable: child.stdin, readable: child.stdout })
  // Whoever reads the stream sees its end; that the program could not be started is the same to it.
  child.on('error', error => stream.destroy(error))
  stream.on('error', () => {})
  return { stream, end: () => void child.kill() }
}
