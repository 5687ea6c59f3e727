// What `sockaddr` needs to know of a host: its interfaces, and which of them the default route goes through.
import type { Remote } from '../connection/remote.ts'
import { RekeyError } from '../errors.ts'
import type { MachineInterfaces } from './sockaddr.ts'

interface Shown {
  readonly ifname: string
  readonly flags: readonly string[]
  readonly addr_info: readonly { readonly local?: string; readonly prefixlen: number }[]
}

/** Ask a host's `ip`. Throws `RekeyError` where it answers something else than JSON, `HostFailedError` where it fails. */
export async function readInterfaces({ $ }: { readonly $: Remote }): Promise<MachineInterfaces> {
  const [links, routes] = await Promise.all([$`ip -json address`, $`ip -json route show default`])
  const shown = parse(links.stdout) as Shown[]
  const [route] = parse(routes.stdout) as { dev?: string }[]
  return {
    interfaces: shown.map(({ ifname: name, flags, addr_info: addresses }) => ({
      ...{ name, flags },
      addresses: addresses.flatMap(({ local, prefixlen }) => (local === undefined ? [] : [`${local}/${prefixlen}`])),
    })),
    defaultInterface: route?.dev,
  }
}

function parse(text: string): unknown[] {
  try {
    return text.trim() === '' ? [] : JSON.parse(text)
  } catch (cause) {
    throw new RekeyError("sockaddr: this host's `ip` does not answer in JSON", {
      code: 'template.interfaces',
      hint: 'It takes the `ip` of iproute2, 4.12 or later.',
      cause,
    })
  }
}
