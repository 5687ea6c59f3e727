// The Go programs of the lab: from REKEY_BIN_DIR, from the cache, or built from the modules in binaries/.
import { createHash } from 'node:crypto'
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { RekeyError } from '../errors.ts'
import { ownFile } from '../package.ts'
import { lastLines, tryCommand } from './command.ts'
import { cacheFolder, privateFolder } from './folders.ts'
import { madeOnce } from './lock.ts'
import { type Report, timed } from './progress.ts'

export type BinaryName = 'kubernetes' | 'coredns' | 'vault' | 'canary' | 'consul-template' | 'kms'

/** The version of Kubernetes in binaries/kubernetes/go.mod, as kubeadm wants to be told. */
export const kubernetesVersion = /^\tk8s\.io\/kubernetes (v\S+)$/m.exec(
  readFileSync(join(moduleFolder('kubernetes'), 'go.mod'), 'utf8'),
)![1]!

const stamp = (variable: string, value: string) => `-X k8s.io/${variable}=${value}`
const [, major, minor] = /^v(\d+)\.(\d+)\./.exec(kubernetesVersion)!

/** How each program is built beyond `go build -trimpath`. */
const recipes: Record<BinaryName, { flags: string[]; ldflags: string[]; target?: string; cgo?: true }> = {
  kubernetes: {
    flags: [],
    // What a release of Kubernetes says of itself: kubeadm and the version skew rules read it.
    ldflags: [
      stamp('component-base/version.gitVersion', kubernetesVersion),
      stamp('component-base/version.gitMajor', major!),
      stamp('component-base/version.gitMinor', minor!),
      stamp('component-base/version.gitTreeState', 'clean'),
      stamp('component-base/version.gitCommit', kubernetesVersion),
      stamp('client-go/pkg/version.gitVersion', kubernetesVersion),
      stamp('component-base/version.buildDate', '1970-01-01T00:00:00Z'),
    ],
  },
  coredns: { flags: [], ldflags: [] },
  // Without the clouds' engines and stores: half the size.
  vault: { flags: ['-tags', 'minimal'], ldflags: [] },
  canary: { flags: [], ldflags: [] },
  'consul-template': { flags: [], ldflags: [], target: 'github.com/hashicorp/consul-template' },
  // A token's library is C's.
  kms: { flags: [], ldflags: [], cgo: true },
}

function moduleFolder(name: BinaryName): string {
  return ownFile('lib/lab/binaries', name)
}

/** What a binary was made of, in a few letters: it is built anew when any of this changes. */
export function binaryKey(name: BinaryName): string {
  const hash = createHash('sha256').update(JSON.stringify(recipes[name]))
  for (const file of readdirSync(moduleFolder(name)).sort())
    hash.update(`\0${file}\0`).update(readFileSync(join(moduleFolder(name), file)))
  return hash.digest('hex').slice(0, 16)
}

const cachedPath = (name: BinaryName) => join(cacheFolder(), 'bin', `${name}-${binaryKey(name)}`, name)

/** Where a binary is, if it needs no build. REKEY_BIN_DIR comes first. */
export function findBinary(name: BinaryName): string | undefined {
  const folder = process.env.REKEY_BIN_DIR
  return [folder && join(folder, name), cachedPath(name)].find(path => path && isExecutable(path)) || undefined
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/**
 * Returns the path of each named program, after building those that are nowhere yet.
 * Throws a `RekeyError` when Go is missing (`lab.no-go`) or a build fails (`lab.build-failed`).
 */
export async function ensureBinaries<Name extends BinaryName>(
  names: readonly Name[],
  { report }: { report: Report },
): Promise<Record<Name, string>> {
  const paths = {} as Record<Name, string>
  // One after the other: a single build keeps every core busy.
  for (const name of names)
    paths[name] = await madeOnce(
      { path: cachedPath(name), title: `Build ${name}` },
      { find: () => findBinary(name), make: () => build(name, report), report },
    )
  return paths
}

async function build(name: BinaryName, report: Report): Promise<string> {
  const { flags, ldflags, target, cgo } = recipes[name]
  const source = moduleFolder(name)
  // A compiler that collects its garbage less often takes a fifth less of the processor, and some 50 MB more.
  const collector = { GOGC: process.env.GOGC ?? '400' }
  const environment = { CGO_ENABLED: cgo ? '1' : '0', GOFLAGS: '-mod=readonly -buildvcs=false', ...collector }
  const path = cachedPath(name)
  privateFolder(cacheFolder())
  const folder = `${path}.building-${process.pid}`
  mkdirSync(folder, { recursive: true })
  try {
    return await timed(report, `Build ${name}`, async detail => {
      detail('fetching its modules')
      const fetched = await tryCommand('go', ['list', '-deps', ...flags, target ?? '.'], {
        cwd: source,
        environment,
        timeout: 1800,
        nice: 5,
        onLine: line => line.startsWith('go: downloading ') && detail(line.slice(4)),
      })
      if (fetched.code !== 0) throw buildFailed(name, fetched.stderr)
      const packages = fetched.stdout.trimEnd().split('\n').length
      let compiled = 0
      detail(`${packages} packages`)
      const built = await tryCommand(
        'go',
        [
          ...['build', '-v', '-trimpath', ...flags],
          ...['-ldflags', ['-s', '-w', ...ldflags].join(' '), '-o', join(folder, name), target ?? '.'],
        ],
        {
          cwd: source,
          environment,
          timeout: 3600,
          nice: 5,
          onLine: line => {
            if (/^[\w.-]+(\/[\w.~-]+)*$/.test(line)) detail(`${++compiled} of ${packages} packages`)
          },
        },
      )
      if (built.code !== 0) throw buildFailed(name, built.stderr)
      mkdirSync(join(path, '..'), { recursive: true })
      renameSync(join(folder, name), path)
      return path
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function buildFailed(name: string, output: string): RekeyError {
  const errors = output.split('\n').filter(line => !line.startsWith('go: downloading ') && !/^[\w.~/-]+$/.test(line))
  return new RekeyError(`building ${name} failed: ${lastLines(errors.join('\n'))}`, {
    code: 'lab.build-failed',
    hint: 'Go fetches the modules through GOPROXY: check that it is reachable, then try again; what was built is kept.',
  })
}

/** Which of these would have to be built. */
export const missingBinaries = (names: readonly BinaryName[]): BinaryName[] => names.filter(name => !findBinary(name))

/** Whether a program is built with a C compiler beside Go. */
export const needsC = (name: BinaryName): boolean => recipes[name].cgo ?? false

/** Whether the Go tool chain is on the PATH. */
export function hasGo(): boolean {
  return (process.env.PATH ?? '').split(':').some(folder => existsSync(join(folder, 'go')))
}
