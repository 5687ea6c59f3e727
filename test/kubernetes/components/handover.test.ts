// Rules that hand an API server's traffic over, what is read of them, and of connections. That they lead where they should, the lab shows.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { connectionsOf, handedOver, handoverRules, toolsOf } from '../../../lib/kubernetes/components/handover.ts'
import { localSession } from '../_local.ts'
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
  const own = '-p tcp -m addrtype --dst-type LOCAL -m tcp --dport 6443 --syn -j DNAT --to-destination 10.0.0.2:6444'
  const service = '-p tcp -d 10.96.0.1 -m tcp --dport 443 --syn -j DNAT --to-destination 10.0.0.2:6444'
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
  const own = '-p tcp -m addrtype --dst-type LOCAL -m tcp --dport 6443 --syn -j DNAT --to-destination 10.0.0.2:6443'
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
    '-p tcp -d fd00::1 -m tcp --dport 443 --syn -j DNAT --to-destination [fd00::2]:6443',
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

/** Has a server listen at a port that nobody is given who connects somewhere: it would be counted, too. */
async function belowEphemeral(server: Server): Promise<number> {
  for (let tries = 0; tries < 50; tries++) {
    const port = 20_000 + Math.floor(Math.random() * 10_000)
    const listens = new Promise(resolve => {
      server.once('listening', () => resolve(true)).once('error', () => resolve(false))
    })
    server.listen(port, '127.0.0.1')
    if (await listens) return port
  }
  throw new Error('no port is free')
}

test('a host tells of a port whether it listens, and how many connections to it stand', async t => {
  const { session } = await localHost(t)
  const server = createServer()
  const port = await belowEphemeral(server)
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

test('what a host lacks to hand traffic over is named, each tool of the family that it takes', async t => {
  const bin = join(mkdtempSync(join(tmpdir(), 'rekey-handover-')), 'bin')
  mkdirSync(bin)
  t.teardown(() => rmSync(dirname(bin), { recursive: true, force: true }))
  const tool = (name: string, text = '') => writeFileSync(join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
  tool('id', 'echo 1007')
  const session = await localSession(line => `PATH=${bin}; unset SUDO_UID; ${line}`)
  t.deepEqual(await toolsOf(session, '10.0.0.2'), {
    login: 1007,
    missing: ['iptables', 'iptables-restore', 'systemd-run'],
  })
  for (const name of ['iptables', 'iptables-restore', 'systemd-run']) tool(name)
  t.deepEqual((await toolsOf(session, '10.0.0.2')).missing, [])
  t.deepEqual((await toolsOf(session, 'fd00::2')).missing, ['ip6tables', 'ip6tables-restore'])
  // By sudo, the user who logged in is another one than who asks.
  const sudo = await localSession(line => `PATH=${bin}; SUDO_UID=1001; ${line}`)
  t.is((await toolsOf(sudo, '10.0.0.2')).login, 1001)
})
