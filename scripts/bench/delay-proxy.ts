// A TCP proxy that holds every byte back for some milliseconds each way, for kernels that have no netem. What comes to a
// port on an address of loopback goes on to its target port on the same address: delay-proxy.ts MILLISECONDS PORT:TARGET-PORT...
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

const [milliseconds, ...pairs] = process.argv.slice(2)
const delay = Number(milliseconds)

for (const pair of pairs) {
  const [port, target] = pair.split(':').map(Number) as [number, number]
  const server = createServer({ allowHalfOpen: true }, client => passOn(client, target))
  await once(server.listen({ port, host: '0.0.0.0', backlog: 2_000 }), 'listening')
}
console.log('ready')

function passOn(client: Socket, target: number): void {
  const onward = connect({ host: client.localAddress ?? '', port: target, allowHalfOpen: true })
  for (const socket of [client, onward]) {
    socket.setNoDelay(true)
    socket.on('error', () => {
      client.destroy()
      onward.destroy()
    })
  }
  holdBack(client, onward)
  holdBack(onward, client)
}

/** Timers of one length fire in the order in which they were set, so bytes stay in order. */
function holdBack(from: Socket, to: Socket): void {
  from.on('data', chunk => setTimeout(() => to.destroyed || to.write(chunk), delay))
  from.on('end', () => setTimeout(() => to.end(), delay))
  from.on('close', () => setTimeout(() => to.destroy(), delay))
}
