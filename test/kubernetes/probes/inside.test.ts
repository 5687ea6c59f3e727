// A port of this machine that leads through a host.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import test from 'ava'
import { wayInside } from '../../../lib/kubernetes/probes/inside.ts'
import { localHost } from '../components/_host.ts'

test('what is asked at a way inside is answered by who is there, and nobody where nobody is', async t => {
  const { session } = await localHost(t)
  const server = createServer(socket => socket.pipe(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  const way = await wayInside(session, '127.0.0.1', port)
  const asked = connect(Number(new URL(way.address).port), '127.0.0.1')
  asked.write('there?')
  t.is(String((await once(asked, 'data'))[0]), 'there?')
  server.close()
  const cutOff = (socket: Socket) =>
    new Promise<number>(resolve => {
      socket.on('error', () => {})
      socket.once('close', () => resolve(socket.bytesRead))
    })
  const refused = connect(Number(new URL(way.address).port), '127.0.0.1')
  t.is(await cutOff(refused), 0)
  // Who is connected when it ends is cut off, too.
  const ended = cutOff(asked)
  way.close()
  t.is(await ended, 'there?'.length)
})
