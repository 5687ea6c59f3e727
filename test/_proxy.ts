// A proxy for HTTPS, as VAULT_PROXY_ADDR and HTTPS_PROXY name one.
import http from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { ExecutionContext } from 'ava'

/**
 * Starts a proxy that leads to a port of this machine, whatever it is asked for; it ends with the test.
 * @returns its address, and what it was asked for so far
 */
export async function startConnectProxy(t: ExecutionContext, port: number): Promise<{ url: string; ways: string[] }> {
  const ways: string[] = []
  const sockets: Socket[] = []
  const proxy = http.createServer().on('connect', (request, near: Socket) => {
    ways.push(request.url ?? '')
    const far = connect(port, '127.0.0.1', () => {
      near.write('HTTP/1.1 200 OK\r\n\r\n')
      far.pipe(near).pipe(far)
    })
    sockets.push(near, far)
  })
  await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    proxy.close()
  })
  return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, ways }
}
