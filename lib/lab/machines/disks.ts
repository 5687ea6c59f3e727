// What is on each machine's disk before it boots for the first time.

import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { layoutOf } from '../cluster/layouts/index.ts'
import { writeWhole } from '../folders.ts'
import { endpointOf, type Machine, masters, type Shape, vaultMachine } from '../shape.ts'
import { fileOf, machineFolder } from './machine.ts'

function unitsOf(shape: Shape, machine: Machine): readonly string[] {
  if (machine.role === 'loadbalancer') return ['/lib/systemd/system/haproxy.service']
  if (machine.role === 'vault') return ['/etc/systemd/system/vault.service']
  const runtime = machine.podSubnet ? ['/lib/systemd/system/containerd.service'] : []
  return [...runtime, ...layoutOf(shape).units(shape, machine)]
}

/** Writes a machine's disk: its name, its services and their configuration. */
export function prepareDisk(shape: Shape, machine: Machine): void {
  const write = (path: string, content: string) => {
    const file = fileOf(shape.name, machine.name, path)
    mkdirSync(dirname(file), { recursive: true })
    writeWhole(file, content)
  }
  mkdirSync(join(machineFolder(shape.name, machine.name), 'etcd'), { recursive: true, mode: 0o700 })
  chmodSync(join(machineFolder(shape.name, machine.name), 'etcd'), 0o700)
  write('/etc/hostname', `${machine.hostname}\n`)
  write('/etc/machine-id', `${randomBytes(16).toString('hex')}\n`)
  write('/etc/hosts', hosts(shape))
  // Nobody answers there, and the kernel says so at once: the lab knows no names but its own.
  write('/etc/resolv.conf', `nameserver ${vaultMachine(shape).address}\n`)
  const wanted = fileOf(shape.name, machine.name, '/etc/systemd/system/multi-user.target.wants')
  mkdirSync(wanted, { recursive: true })
  for (const unit of unitsOf(shape, machine)) symlinkSync(unit, join(wanted, unit.slice(unit.lastIndexOf('/') + 1)))
  if (machine.podSubnet) write('/etc/cni/net.d/10-bridge.conflist', podNetwork(machine.podSubnet))
  const { adminKubeconfig } = layoutOf(shape)
  if (machine.role === 'master' && adminKubeconfig !== '/root/.kube/config') {
    // Whoever logs in to a master can type kubectl; a link, so that it is always the current one.
    const folder = fileOf(shape.name, machine.name, '/root/.kube')
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    symlinkSync(adminKubeconfig, join(folder, 'config'))
  }
  if (machine.role === 'loadbalancer') write('/etc/haproxy/haproxy.cfg', loadBalancer(shape))
}

function hosts(shape: Shape): string {
  const endpoint = endpointOf(shape)
  const lines = shape.machines.map(({ hostname, address }) => `${address} ${hostname}`)
  if (endpoint.name) lines.push(`${endpoint.address} ${endpoint.name}`)
  return `127.0.0.1 localhost\n::1 localhost ip6-localhost\n${lines.join('\n')}\n`
}

function podNetwork(subnet: string): string {
  return `${JSON.stringify(
    {
      cniVersion: '1.0.0',
      name: 'pods',
      plugins: [
        {
          type: 'bridge',
          bridge: 'cni0',
          isGateway: true,
          hairpinMode: true,
          ipam: {
            type: 'host-local',
            // Not on the disk: after a reboot, no pod has an address.
            dataDir: '/run/cni-addresses',
            ranges: [[{ subnet }]],
            routes: [{ dst: '0.0.0.0/0' }],
          },
        },
        { type: 'portmap', capabilities: { portMappings: true } },
      ],
    },
    undefined,
    2,
  )}\n`
}

/** haproxy in front of the API servers, as operators run it: plain TCP, servers in and out by /readyz, where that tells everybody. */
function loadBalancer(shape: Shape): string {
  const asked = layoutOf(shape).anonymousReadiness
    ? `  option httpchk
  http-check send meth GET uri /readyz
  http-check expect status 200
`
    : ''
  const servers = masters(shape).map(({ name, address }) => `  server ${name} ${address}:6443 check`)
  return `global
  maxconn 4096
  stats socket /run/haproxy.sock mode 600 level admin

defaults
  mode tcp
  timeout connect 2s
  # One that comes up takes connections before it answers: whoever waits for that answer for long comes late to the next.
  timeout check 1s
  timeout client 1h
  timeout server 1h
  option redispatch 1
  retries 3

frontend kubernetes-api
  bind :6443
  default_backend masters

backend masters
  balance roundrobin
${asked}  default-server check-ssl verify none inter 500ms downinter 250ms fall 3 rise 1
${servers.join('\n')}
`
}
