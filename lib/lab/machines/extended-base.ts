// A Debian for labs that few make: the base of all machines, and packages on top of it. What all others start from, and their snapshots, stay what they are.
import { existsSync, renameSync } from 'node:fs'
import { RekeyError } from '../../errors.ts'
import { command, lastLines, tryCommand } from '../command.ts'
import { madeOnce } from '../lock.ts'
import { type Report, timed } from '../progress.ts'

/**
 * Returns the folder of a base with more packages, after making it if it isn't in the cache.
 * @param base the folder of the base
 * @throws RekeyError `lab.packages` where they can't be installed
 */
export async function ensureExtendedBase(base: string, packages: readonly string[], report: Report): Promise<string> {
  const path = `${base}-with-${packages.join('-')}`
  const title = `Install ${packages.join(' and ')} for the machines`
  const find = () => (existsSync(path) ? path : undefined)
  return madeOnce(
    { path, title },
    { find, make: () => timed(report, title, () => extend(base, path, packages)), report },
  )
}

async function extend(base: string, folder: string, packages: readonly string[]): Promise<string> {
  const building = `${folder}.building`
  await command('rm', ['-rf', '--one-file-system', building], { timeout: 120 })
  await command('cp', ['-a', '--reflink=auto', base, building], { timeout: 300 })
  await command('cp', ['/etc/resolv.conf', `${building}/etc/resolv.conf`])
  const script = `
    export DEBIAN_FRONTEND=noninteractive
    mount -t proc proc /proc
    apt-get update -qq </dev/null
    apt-get install -y -qq --no-install-recommends ${packages.join(' ')} </dev/null
    rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/* /usr/share/doc/* /usr/share/man/* /usr/share/locale/*`
  const { code, stderr } = await tryCommand(
    // What is mounted ends with it, even when it is killed.
    'unshare',
    ['--mount', '--propagation', 'private', 'chroot', building, '/bin/sh', '-e'],
    { input: script, timeout: 900, environment: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' } },
  )
  if (code !== 0)
    throw new RekeyError(`apt-get installs no ${packages.join(' and ')}: ${lastLines(stderr, 4)}`, {
      code: 'lab.packages',
      hint: 'Check that this machine reaches the Debian mirror that the base is of, then try again.',
    })
  renameSync(building, folder)
  return folder
}
