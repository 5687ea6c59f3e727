// A TCP proxy that holds every byte back for some milliseconds each way, for kernels that have no netem. What comes to an
// address of loopback goes on to the same address: delay-proxy.ts PORT TARGET-PORT MILLISECONDS
import { connect, createServer, type Socket } from 'node:net'

const [port, target, delay] = process.argv.slice(2).map(Number) as [number, number, number]

const server = createServer({ allowHalfOpen: true }, client => {
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
})
server.listen({ port, host: '0.0.0.0', backlog: 2_000 }, () => console.log('ready'))

/** Timers of one length fire in the order in which they were set, so bytes stay in order. */
function holdBack(from: Socket, to: Socket): void {
  from.on('data', chunk => setTimeout(() => to.destroyed || to.write(chunk), delay))
  from.on('end', () => setTimeout(() => to.end(), delay))
  from.on('close', () => setTimeout(() => to.destroy(), delay))
}
