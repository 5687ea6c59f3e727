// The peers, each in a Python environment of its own in rekey's cache, in the version that is pinned here.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { ansibleProgram, ansibleVersion, installAnsible } from '../update-ansible-core.ts'

/** A newer one: change it here, and record the table anew. */
const versions = { mitogen: '0.3.54', pyinfra: '3.10.0' }

const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'rekey', 'bench')

/** Where Ansible finds Mitogen's strategies. */
export const mitogenStrategies = join(cache, `mitogen-${versions.mitogen}`, 'ansible_mitogen', 'plugins', 'strategy')

/** pyinfra's program. */
export const pyinfraProgram = join(cache, `pyinfra-${versions.pyinfra}`, 'bin', 'pyinfra')

export { ansibleProgram }

/** Installs what is missing of these runners. Python 3.11 or later must be there for each. */
export function installPeers(runners: readonly string[]): void {
  const wanted = (...ids: readonly string[]) => ids.some(id => runners.includes(id))
  if (wanted('ansible', 'mitogen')) installAnsible()
  const pip = ['install', '--quiet', '--disable-pip-version-check']
  if (wanted('mitogen') && !existsSync(mitogenStrategies)) {
    const target = join(cache, `mitogen-${versions.mitogen}`)
    const words = [...pip, '--no-deps', '--target', target, `mitogen==${versions.mitogen}`]
    execFileSync(ansibleProgram('pip'), words, { stdio: 'inherit' })
  }
  if (wanted('pyinfra') && !existsSync(pyinfraProgram)) {
    const folder = join(cache, `pyinfra-${versions.pyinfra}`)
    const lock = join(import.meta.dirname, 'pyinfra.txt')
    execFileSync('python3', ['-m', 'venv', folder], { stdio: 'inherit' })
    const words = [...pip, '--no-deps', '--requirement', lock]
    execFileSync(join(folder, 'bin', 'pip'), words, { stdio: 'inherit' })
  }
}

/** What is compared, for the record. */
export function peerVersions(): Record<string, string> {
  const said = (program: string, ...words: string[]) => {
    // ssh tells its version on stderr.
    const { stdout, stderr, error } = spawnSync(program, words, { encoding: 'utf8' })
    if (error) return 'not there'
    return (stdout + stderr).trim().split('\n')[0] ?? ''
  }
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '..', '..', 'package.json'), 'utf8')) as {
    version: string
  }
  return {
    rekey: version,
    Node: process.version,
    'ansible-core': ansibleVersion,
    Mitogen: versions.mitogen,
    pyinfra: versions.pyinfra,
    Python: said(ansibleProgram('python'), '--version').replace('Python ', ''),
    OpenSSH: said('ssh', '-V').replace(/,.*/, ''),
  }
}
