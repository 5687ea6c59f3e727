// Rules that hand an API server's traffic over, what is read of them, and of connections. That they lead where they should, the lab shows.
import { connect, createServer } from 'node:net'
import test from 'ava'
import { connectionsOf, handedOver, handoverRules } from '../../../lib/kubernetes/components/handover.ts'
import { localHost } from './_host.ts'

const rules = (text: string, chain: string) =>
  text
    .split('\n')
    .filter(line => line.startsWith(`-A ${chain} `))
    .map(line => line.slice(`-A ${chain} `.length))

test('what arrives for the server or for the Service goes to the other one, and comes back through here', t => {
  const text = handoverRules(
    {
      port: 6443,
      to: { address: '10.0.0.2', port: 6444 },
      services: [
        { address: '10.96.0.1', port: 443 },
        { address: 'fd00::1', port: 443 },
      ],
    },
    1000,
  )
  const own = '-p tcp -m addrtype --dst-type LOCAL -m tcp --dport 6443 -j DNAT --to-destination 10.0.0.2:6444'
  const service = '-p tcp -d 10.96.0.1 -m tcp --dport 443 -j DNAT --to-destination 10.0.0.2:6444'
  t.deepEqual(rules(text, 'REKEY-ARRIVING'), [own, service])
  t.deepEqual(rules(text, 'REKEY-MASKED'), [
    '-p tcp -d 10.0.0.2 -m tcp --dport 6444 -m conntrack --ctstate DNAT -j MASQUERADE',
  ])
  t.deepEqual(
    text.split('\n').filter(line => line.startsWith('-I')),
    [
      '-I FORWARD 1 -j REKEY-PASSING',
      '-I PREROUTING 1 -j REKEY-ARRIVING',
      '-I OUTPUT 1 -j REKEY-LEAVING',
      '-I POSTROUTING 1 -j REKEY-MASKED',
    ],
  )
})

test('the kubelet of the host, and who waits there for the server, go on asking that very one', t => {
  const handover = { port: 6443, to: { address: '10.0.0.2', port: 6443 }, services: [] }
  const own = '-p tcp -m addrtype --dst-type LOCAL -m tcp --dport 6443 -j DNAT --to-destination 10.0.0.2:6443'
  t.deepEqual(rules(handoverRules(handover, 1000), 'REKEY-LEAVING'), [
    '-d 127.0.0.0/8 -j RETURN',
    '-m owner --uid-owner 0 -j RETURN',
    '-m owner --uid-owner 1000 -j RETURN',
    own,
  ])
  t.is(rules(handoverRules(handover, 0), 'REKEY-LEAVING').length, 3)
})

test('an address of IPv6 is handed over with those of its family', t => {
  const text = handoverRules(
    {
      port: 6443,
      to: { address: 'fd00::2', port: 6443 },
      services: [
        { address: '10.96.0.1', port: 443 },
        { address: 'fd00::1', port: 443 },
      ],
    },
    0,
  )
  t.deepEqual(rules(text, 'REKEY-ARRIVING').slice(1), [
    '-p tcp -d fd00::1 -m tcp --dport 443 -j DNAT --to-destination [fd00::2]:6443',
  ])
  t.is(rules(text, 'REKEY-LEAVING')[1], '-d ::1 -j RETURN')
})

test('what was handed over is counted from what iptables lists', t => {
  const listing = `Chain REKEY-ARRIVING (1 references)
    pkts      bytes target     prot opt in     out     source               destination
    1687   101220 DNAT       6    --  *      *       0.0.0.0/0            0.0.0.0/0            ADDRTYPE match dst-type LOCAL tcp dpt:6443 to:10.0.0.2:6443
       3      180 DNAT       tcp  --  *      *       0.0.0.0/0            10.96.0.1            tcp dpt:443 to:10.0.0.2:6443
Chain REKEY-LEAVING (1 references)
    pkts      bytes target     prot opt in     out     source               destination
      90     5400 RETURN     0    --  *      *       0.0.0.0/0            127.0.0.0/8
`
  t.is(handedOver(listing), 1690)
})

test('a host tells of a port whether it listens, and how many connections to it stand', async t => {
  const { session } = await localHost(t)
  const server = createServer()
  await new Promise<void>(resolve => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as { port: number }
  t.deepEqual(await connectionsOf(session, port), { listens: true, standing: 0 })
  const arrived = new Promise(resolve => {
    server.once('connection', resolve)
  })
  const client = connect(port, '127.0.0.1')
  await arrived
  t.deepEqual(await connectionsOf(session, port), { listens: true, standing: 1 })
  server.close()
  t.deepEqual(await connectionsOf(session, port), { listens: false, standing: 1 })
  client.destroy()
})
