// Which Linux a host has, by its os-release, in Ansible's words.

/** Ansible's name of a distribution and of its family, by the ID of os-release. */
const known: ReadonlyMap<string, readonly [name: string, family: string]> = new Map([
  ['debian', ['Debian', 'Debian']],
  ['ubuntu', ['Ubuntu', 'Debian']],
  ['linuxmint', ['Linux Mint', 'Debian']],
  ['raspbian', ['Debian', 'Debian']],
  ['rhel', ['RedHat', 'RedHat']],
  ['centos', ['CentOS', 'RedHat']],
  ['rocky', ['Rocky', 'RedHat']],
  ['almalinux', ['AlmaLinux', 'RedHat']],
  ['fedora', ['Fedora', 'RedHat']],
  ['ol', ['OracleLinux', 'RedHat']],
  ['amzn', ['Amazon', 'RedHat']],
  ['sles', ['SLES', 'Suse']],
  ['opensuse-leap', ['openSUSE Leap', 'Suse']],
  ['opensuse-tumbleweed', ['openSUSE Tumbleweed', 'Suse']],
  ['alpine', ['Alpine', 'Alpine']],
  ['arch', ['Archlinux', 'Archlinux']],
  ['flatcar', ['Flatcar', 'Flatcar']],
])

/** What a host says of its system. */
export interface Distribution {
  readonly distribution: string
  readonly distributionVersion: string
  readonly distributionMajorVersion: string
  /** The code name, where it has one. */
  readonly distributionRelease: string
  readonly osFamily: string
}

/**
 * @param release the lines of /etc/os-release
 * @param debian what /etc/debian_version says, which is more exact
 */
export function distributionOf(release: readonly string[], debian: string): Distribution {
  const said = new Map(
    release.flatMap(line => {
      const [, name, value = ''] = /^([A-Z_]+)=(.*)$/.exec(line.trim()) ?? []
      return name === undefined ? [] : [[name, value.replace(/^(["'])(.*)\1$/, '$2').replace(/\\(.)/g, '$1')] as const]
    }),
  )
  const id = said.get('ID') ?? ''
  const like = (said.get('ID_LIKE') ?? '').split(' ').find(one => known.has(one))
  const [name, family] = known.get(id) ?? [
    said.get('NAME') ?? 'n/a',
    known.get(like ?? '')?.[1] ?? said.get('NAME') ?? 'n/a',
  ]
  const version = id === 'debian' && /^\d/.test(debian) ? debian : (said.get('VERSION_ID') ?? 'n/a')
  return {
    distribution: name,
    distributionVersion: version,
    distributionMajorVersion: version.split('.')[0]!,
    distributionRelease: family === 'Suse' ? (version.split('.')[1] ?? 'n/a') : codeName(said),
    osFamily: family,
  }
}

/** Some say that they have none, by an empty one. */
function codeName(said: ReadonlyMap<string, string>): string {
  return said.get('VERSION_CODENAME') ?? /\(([^()]+)\)/.exec(said.get('VERSION') ?? '')?.[1] ?? 'n/a'
}
