// What the control machine must have before a lab can run on it. Everything missing is named at once, before
// anything is changed.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { type BinaryName, hasGo, missingBinaries, needsC } from './binaries.ts'
import { command, tryCommand } from './command.ts'
import { cacheFolder, labsFolder } from './folders.ts'
import { type Report, timed } from './progress.ts'
import { hasBase } from './rootfs.ts'

/** Asks whether something may be done; resolves to the answer. */
export type Confirm = (question: string) => Promise<boolean>

/** What this machine is, as far as the lab cares. */
export interface System {
  readonly platform: string
  readonly root: boolean
  /** ID and ID_LIKE of /etc/os-release. */
  readonly distribution: readonly string[]
  /** Whether a program is on the PATH, or a file exists. */
  readonly has: (programOrFile: string) => boolean
  /** The programs of Go that would have to be built. */
  readonly toBuild: readonly BinaryName[]
  readonly hasGo: boolean
  readonly hasBase: boolean
  readonly folders: readonly string[]
}

/** Programs and files the lab uses, and the packages of Debian and Ubuntu that bring them. */
const needed: readonly { file: string; package: string; onlyForBase?: true; onlyForC?: true }[] = [
  { file: 'systemd-nspawn', package: 'systemd-container' },
  { file: 'ip', package: 'iproute2' },
  { file: 'nsenter', package: 'util-linux' },
  { file: 'unshare', package: 'util-linux' },
  { file: 'mount', package: 'mount' },
  { file: 'openssl', package: 'openssl' },
  { file: 'ssh-keygen', package: 'openssh-client' },
  { file: 'tar', package: 'tar' },
  { file: 'find', package: 'findutils' },
  { file: 'debootstrap', package: 'debootstrap', onlyForBase: true },
  {
    file: '/usr/share/keyrings/debian-archive-keyring.gpg',
    package: 'debian-archive-keyring',
    onlyForBase: true,
  },
  { file: 'gcc', package: 'gcc', onlyForC: true },
  { file: '/usr/include/dlfcn.h', package: 'libc6-dev', onlyForC: true },
]

/** What is missing on a system: packages that apt can install, and what somebody else must see to. */
export function findMissing(system: System): { packages: string[]; others: string[] } {
  const packages = needed
    .filter(({ onlyForBase }) => !(onlyForBase && system.hasBase))
    .filter(({ onlyForC }) => !onlyForC || system.toBuild.some(needsC))
    .filter(({ file }) => !system.has(file))
    .map(entry => entry.package)
  const others: string[] = []
  if (system.platform !== 'linux') others.push('Linux: the lab boots its machines with systemd-nspawn')
  else if (!system.root) others.push('root: the lab makes network namespaces and boots machines. Run it with sudo')
  if (system.toBuild.length > 0 && !system.hasGo)
    others.push(
      `Go 1.26 to build ${system.toBuild.join(', ')}: install it, or name a folder that has them in REKEY_BIN_DIR`,
    )
  for (const folder of system.folders)
    if (/[:,\\\s]/.test(folder))
      others.push(`a folder without colons, commas and spaces for the machines' disks, unlike ${folder}`)
  return { packages: [...new Set(packages)], others }
}

/** Looks at this machine. */
function thisSystem(binaries: readonly BinaryName[]): System {
  const path = (process.env.PATH ?? '').split(':')
  return {
    platform: process.platform,
    root: process.getuid?.() === 0,
    distribution: readDistribution(),
    has: file => (file.startsWith('/') ? existsSync(file) : path.some(folder => existsSync(join(folder, file)))),
    toBuild: missingBinaries(binaries),
    hasGo: hasGo(),
    hasBase: hasBase(),
    folders: [cacheFolder(), labsFolder()],
  }
}

function readDistribution(): string[] {
  try {
    return readFileSync('/etc/os-release', 'utf8')
      .split('\n')
      .flatMap(line => /^ID(?:_LIKE)?="?([^"]*)"?$/.exec(line)?.[1]?.split(' ') ?? [])
  } catch {
    return []
  }
}

/**
 * Makes sure that this machine can run a lab: installs missing packages with apt, if `confirm` agrees.
 * Throws a `RekeyError` (`lab.prerequisites`) that names everything that is missing otherwise.
 */
export async function ensurePrerequisites(
  binaries: readonly BinaryName[],
  report: Report,
  confirm: Confirm,
): Promise<void> {
  const system = thisSystem(binaries)
  const { packages, others } = findMissing(system)
  const debian = system.distribution.includes('debian') && system.has('apt-get')
  if (others.length > 0 || (packages.length > 0 && !debian)) {
    const missing = [...others, ...(packages.length ? [`these packages (Debian's names): ${packages.join(' ')}`] : [])]
    throw new RekeyError(`the lab needs, and this machine lacks:\n${missing.map(line => `  - ${line}`).join('\n')}`, {
      code: 'lab.prerequisites',
      hint: debian ? undefined : 'The lab is at home on Debian 12 and Ubuntu, as root.',
    })
  }
  if (packages.length > 0) {
    const list = packages.join(' ')
    report({ kind: 'note', text: `The lab needs these Debian packages, which apt will install: ${list}` })
    if (!(await confirm(`Install ${list}?`)))
      throw new RekeyError(`the lab needs these packages: ${list}`, {
        code: 'lab.prerequisites',
        hint: `Install them: apt-get install ${list}`,
      })
    await timed(report, `Install ${list}`, async detail => {
      const install = ['install', '-y', '--no-install-recommends', ...packages]
      const options = { timeout: 900, environment: { DEBIAN_FRONTEND: 'noninteractive' }, onLine: detail }
      if ((await tryCommand('apt-get', install, options)).code === 0) return
      // The lists of packages may be older than what the mirror has.
      await command('apt-get', ['update'], options)
      await command('apt-get', install, options)
    })
  }
  // Both may be built in, or be there already.
  await tryCommand('modprobe', ['--all', 'overlay', 'br_netfilter']).catch(() => undefined)
  if (!existsSync('/proc/sys/net/bridge'))
    throw new RekeyError("this kernel has no br_netfilter: pods would not reach a Service's pod beside them", {
      code: 'lab.prerequisites',
      hint: 'Load it (modprobe br_netfilter), or install the kernel package that brings it.',
    })
}
