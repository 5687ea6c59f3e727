// The Debian that every machine of every lab starts from: made once with debootstrap, kept in the cache, never written to.
import { createHash } from 'node:crypto'
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { ownFile } from '../package.ts'
import { command, lastLines, tryCommand } from './command.ts'
import { cacheFolder, privateFolder, writeWhole } from './folders.ts'
import { madeOnce } from './lock.ts'
import { type Report, timed } from './progress.ts'

const suite = 'bookworm'

const packages = [
  // the system
  ...['systemd', 'systemd-sysv', 'dbus', 'openssh-server', 'sudo', 'iproute2', 'iputils-ping', 'procps', 'kmod'],
  // what Kubernetes runs on
  ...['containerd', 'runc', 'containernetworking-plugins', 'iptables', 'nftables', 'conntrack', 'ethtool', 'socat'],
  // the load balancer
  'haproxy',
  // what operators reach for
  ...['openssl', 'ca-certificates', 'curl', 'jq', 'less', 'vim-tiny', 'netcat-openbsd', 'zstd'],
  // a clock that is wrong
  'faketime',
]

/** Services that packages enable and that only some machines run, or none. */
const disabled = ['haproxy.service', 'containerd.service', 'e2scrub_reap.service', 'getty@tty1.service']
const masked = [
  ...['apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'e2scrub_all.timer', 'fstrim.timer'],
  ...['systemd-networkd-wait-online.service', 'systemd-timesyncd.service', 'console-getty.service'],
]

const sourceFolder = ownFile('lib', 'lab', 'base')
const programs = ['kubelet', 'kubeadm', 'kubectl', 'etcdctl', 'etcdutl']

/** What the base is made of, in a few letters. This file is part of it: it says what is done to the base. */
function baseKey(): string {
  const hash = createHash('sha256').update(readFileSync(ownFile('lib', 'lab', 'rootfs.ts')))
  for (const file of readdirSync(sourceFolder).sort()) hash.update(readFileSync(join(sourceFolder, file)))
  return hash.digest('hex').slice(0, 16)
}

const baseFolder = () => join(cacheFolder(), 'rootfs', baseKey())

/** Whether the base is in the cache. */
export const hasBase = (): boolean => existsSync(baseFolder())

/** Returns the folder of the base, after making it if it isn't in the cache. Throws a `RekeyError` (`lab.debootstrap`). */
export async function ensureBase(report: Report): Promise<string> {
  const [path, title] = [baseFolder(), 'Install the Debian of the machines']
  const find = () => (existsSync(path) ? path : undefined)
  return madeOnce({ path, title }, { find, make: () => makeBase(path, title, report), report })
}

async function makeBase(folder: string, title: string, report: Report): Promise<string> {
  privateFolder(cacheFolder())
  mkdirSync(join(cacheFolder(), 'rootfs'), { recursive: true })
  const building = `${folder}.building`
  await command('rm', ['-rf', '--one-file-system', building], { timeout: 120 })
  await timed(report, title, async detail => {
    const debian = join(cacheFolder(), 'rootfs', `${suite}-${packagesKey()}.tar`)
    if (!existsSync(debian)) {
      await bootstrap(building, detail)
      await command('tar', ['--xattrs', '-C', building, '-cf', `${debian}.new`, '.'], { timeout: 300 })
      renameSync(`${debian}.new`, debian)
    } else {
      mkdirSync(building)
      await command('tar', ['--xattrs', '-C', building, '-xpf', debian], { timeout: 300 })
    }
    detail('configuring it')
    await configure(building)
    renameSync(building, folder)
  })
  return folder
}

const packagesKey = () => createHash('sha256').update(packages.join(' ')).digest('hex').slice(0, 12)

async function bootstrap(folder: string, detail: (text: string) => void): Promise<void> {
  const mirror = await configuredMirror()
  const result = await tryCommand(
    // What debootstrap mounts ends with it, even when it is killed.
    'unshare',
    [
      ...['--mount', '--propagation', 'private', 'debootstrap', '--variant=minbase'],
      ...[`--include=${packages.join(',')}`, suite, folder, ...(mirror ? [mirror] : [])],
    ],
    { timeout: 1800, onLine: line => line.startsWith('I: ') && detail(line.slice(3).replace(/:?\w*\.\.\.$/, '')) },
  )
  if (result.code !== 0)
    throw new RekeyError(
      `debootstrap failed: ${lastLines(result.stdout.replace(/^I: .*\n/gm, ''), 4)} ${lastLines(result.stderr, 4)}`,
      {
        code: 'lab.debootstrap',
        hint: "Check that this machine reaches its Debian mirror ('apt-get update' says), then try again.",
      },
    )
}

/** The mirror that this machine's own apt uses for the same Debian; none on other systems. */
async function configuredMirror(): Promise<string | undefined> {
  const targets = await tryCommand('apt-get', [
    'indextargets',
    '--format',
    '$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)',
  ])
  for (const line of targets.stdout.split('\n')) {
    const [address, codename, component, origin] = line.split(' ')
    if (codename === suite && component === 'main' && origin === 'Debian') return address
  }
  return undefined
}

async function configure(folder: string): Promise<void> {
  const path = (...parts: string[]) => join(folder, ...parts)
  const write = (file: string, content: string, mode = 0o644) => {
    mkdirSync(join(path(file), '..'), { recursive: true })
    writeWhole(path(file), content, { mode })
  }
  const units = '/etc/systemd/system'
  cpSync(join(sourceFolder, 'kubelet.service'), path(units, 'kubelet.service'))
  mkdirSync(path(units, 'kubelet.service.d'))
  cpSync(join(sourceFolder, '10-kubeadm.conf'), path(units, 'kubelet.service.d/10-kubeadm.conf'))
  cpSync(join(sourceFolder, 'rekey-machine.service'), path(units, 'rekey-machine.service'))
  cpSync(join(sourceFolder, 'vault.service'), path(units, 'vault.service'))
  write('/etc/containerd/config.toml', readFileSync(join(sourceFolder, 'containerd.toml'), 'utf8'))
  // Without the capability to lower its OOM score, systemd could not start it at all.
  write(`${units}/containerd.service.d/rekey.conf`, '[Service]\nOOMScoreAdjust=0\n')
  write(
    '/etc/ssh/sshd_config.d/rekey.conf',
    'PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\nMaxStartups 64:30:128\n',
  )
  write(
    '/etc/systemd/journald.conf.d/rekey.conf',
    '[Journal]\nStorage=volatile\nRuntimeMaxUse=64M\nForwardToConsole=no\n',
  )
  write('/etc/systemd/system.conf.d/rekey.conf', '[Manager]\nDefaultTimeoutStopSec=12s\n')
  write('/etc/machine-id', '')
  write('/etc/hostname', '')
  const script = `
    rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
    rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*
    systemctl disable ${disabled.join(' ')}
    systemctl mask ${masked.join(' ')}
    systemctl enable rekey-machine.service ssh.service
    useradd --system --home-dir /var/lib/vault --create-home --shell /usr/sbin/nologin vault
    mkdir -p /var/lib/containerd /var/lib/kubelet /var/lib/etcd
    touch /usr/local/bin/kubernetes /usr/local/bin/vault
    for program in ${programs.join(' ')}; do ln -s ../local/bin/kubernetes /usr/bin/$program; done`
  await command('chroot', [folder, '/bin/sh', '-e'], {
    input: script,
    timeout: 120,
    environment: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
  })
  chmodSync(path('var/lib/etcd'), 0o700)
}
