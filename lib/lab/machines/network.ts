// The network of a lab: a network namespace for each machine, joined by a bridge in a namespace of its own, where
// neither the control machine's firewall nor its forwarding has a say. One interface leads from there into the lab.
import { existsSync, readdirSync } from 'node:fs'
import { command, tryCommand } from '../command.ts'
import { hostName, interfaceName, type Machine, type Shape } from '../shape.ts'

/** The path of a machine's network namespace. */
export const namespacePath = (lab: string, machine: string): string => `/run/netns/${hostName(lab, machine)}`

/** Every IPv4 network the control machine has a route to, in CIDR notation; the default route left out. */
export async function routedNetworks(): Promise<string[]> {
  const routes = JSON.parse(await command('ip', ['-j', '-4', 'route', 'show', 'table', 'all'])) as { dst: string }[]
  return routes.map(({ dst }) => dst).filter(dst => /^[0-9.]+(\/[0-9]+)?$/.test(dst))
}

/** Makes the bridge and the control machine's way into it, if they aren't there. */
export async function createHub(shape: Shape): Promise<void> {
  const hub = hostName(shape.name, 'hub')
  const link = interfaceName(shape.name)
  if (existsSync(`/sys/class/net/${link}`) && existsSync(`/run/netns/${hub}`)) return
  await removeHub(shape)
  const routes = shape.machines
    .filter(({ podSubnet }) => podSubnet)
    .map(({ podSubnet, address }) => `ip -n ${hub} route add ${podSubnet} via ${address}`)
  await shell(`
    ip netns add ${hub}
    ip -n ${hub} link set lo up
    ip -n ${hub} link add br0 type bridge
    # Whoever wants to leave the lab is told at once that there is no way: a machine, and a pod that calls a Service
    # before kube-proxy has heard of it. Left without an answer, that pod's connection would hang for half a minute.
    ip -n ${hub} addr add ${shape.gateway.replace(/1$/, '2')}/24 dev br0
    ip -n ${hub} link set br0 up
    ip -n ${hub} route add unreachable default
    ${routes.join('\n')}
    ip netns exec ${hub} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
    ip link add ${link} type veth peer name host netns ${hub}
    ip -n ${hub} link set host master br0 up
    ip addr add ${shape.gateway}/24 dev ${link}
    ip link set ${link} up`)
}

/** Makes a machine's network namespace: an address, the ways to the other machines' pods, forwarding. */
export async function createNetwork(shape: Shape, machine: Machine): Promise<void> {
  await removeNetwork(shape, machine)
  const namespace = hostName(shape.name, machine.name)
  const hub = hostName(shape.name, 'hub')
  const routes = shape.machines
    .filter(other => other.podSubnet && other.name !== machine.name)
    .map(other => `ip -n ${namespace} route add ${other.podSubnet} via ${other.address}`)
  await shell(`
    ip netns add ${namespace}
    ip -n ${namespace} link set lo up
    ip link add eth0 netns ${namespace} type veth peer name ${machine.name} netns ${hub}
    ip -n ${hub} link set ${machine.name} master br0 up
    ip -n ${namespace} addr add ${machine.address}/24 dev eth0
    ip -n ${namespace} link set eth0 up
    ip -n ${namespace} route add default via ${shape.gateway.replace(/1$/, '2')}
    ${routes.join('\n')}
    # Answers of a Service's pod to a pod on the same bridge must pass the translation of addresses too.
    ip netns exec ${namespace} sh -c '
      echo 1 > /proc/sys/net/ipv4/ip_forward
      if test -d /proc/sys/net/bridge; then echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables; fi'`)
}

/** Removes a machine's network, if it is there. */
export async function removeNetwork(shape: Shape, machine: Machine): Promise<void> {
  const namespace = hostName(shape.name, machine.name)
  const hub = hostName(shape.name, 'hub')
  // The kernel removes a pair of interfaces some time after its namespace: not soon enough to make it anew.
  if (existsSync(`/run/netns/${hub}`)) await tryCommand('ip', ['-n', hub, 'link', 'delete', machine.name])
  if (existsSync(`/run/netns/${namespace}`)) await command('ip', ['netns', 'delete', namespace])
}

/** Removes the bridge and the control machine's way into it, if they are there. */
export async function removeHub(shape: Shape): Promise<void> {
  const hub = hostName(shape.name, 'hub')
  const link = interfaceName(shape.name)
  if (existsSync(`/sys/class/net/${link}`)) await command('ip', ['link', 'delete', link])
  if (existsSync(`/run/netns/${hub}`)) await command('ip', ['netns', 'delete', hub])
}

/** The lab's namespaces that exist, by the machine's name (`hub` for the bridge's). */
export function existingNamespaces(lab: string): string[] {
  if (!existsSync('/run/netns')) return []
  const own = new RegExp(`^rekey-${lab}-(hub|lb1|vault1|m\\d+|n\\d+)$`)
  return readdirSync('/run/netns').flatMap(name => own.exec(name)?.[1] ?? [])
}

async function shell(script: string): Promise<void> {
  await command('sh', ['-e'], { input: script })
}
