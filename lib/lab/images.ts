// The container images of the lab: tar files written here from programs and the base, imported once into a containerd
// whose folder every machine then gets a copy of. No registry is involved.
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  createReadStream,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  symlinkSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { RekeyError } from '../errors.ts'
import { kubernetesVersion } from './binaries.ts'
import { command, lastLines, tryCommand } from './command.ts'
import { cacheFolder, writeWhole } from './folders.ts'
import { madeOnce } from './lock.ts'
import { type Report, timed } from './progress.ts'

/** Where the images pretend to come from. */
export const imageRepository = 'rekey.lab'
export const imageTags = { etcd: '3.6.4-0', coredns: 'v1.14.7', pause: '3.10.1', canary: '1' } as const

const kubernetesPrograms = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kube-proxy'] as const
const everyProgram = [...kubernetesPrograms, 'kubectl', 'etcd', 'etcdctl', 'etcdutl']

type Programs = Readonly<Record<'kubernetes' | 'coredns' | 'canary', string>>

type Layer = 'kubernetes' | 'iptables' | 'coredns' | 'canary'

const images: { names: string[]; layers: Layer[]; entrypoint?: string }[] = [
  {
    names: [
      ...kubernetesPrograms.filter(name => name !== 'kube-proxy').map(name => `${name}:${kubernetesVersion}`),
      `etcd:${imageTags.etcd}`,
    ],
    layers: ['kubernetes'],
  },
  { names: [`kube-proxy:${kubernetesVersion}`], layers: ['kubernetes', 'iptables'] },
  { names: [`coredns:${imageTags.coredns}`], layers: ['coredns'], entrypoint: '/coredns' },
  { names: [`canary:${imageTags.canary}`], layers: ['canary'], entrypoint: '/canary' },
  { names: [`service-routes:${imageTags.canary}`], layers: ['canary', 'iptables'], entrypoint: '/canary' },
  { names: [`pause:${imageTags.pause}`], layers: ['canary'], entrypoint: '/pause' },
]

/**
 * Returns the folder of a containerd that has all images, after making it if it isn't in the cache. It depends on
 * the base and the binaries, whose keys are part of its name. Throws a `RekeyError` (`lab.images`).
 */
export async function ensureImages(base: string, binaries: Programs, report: Report): Promise<string> {
  const key = createHash('sha256').update(JSON.stringify([images, base, everyProgram]))
  for (const name of ['kubernetes', 'coredns', 'canary'] as const) key.update(await fileIdentity(binaries[name]))
  const [path, title] = [join(cacheFolder(), 'containerd', key.digest('hex').slice(0, 16)), 'Make the container images']
  const find = () => (existsSync(path) ? path : undefined)
  return madeOnce({ path, title }, { find, make: () => makeImages(path, title, { base, binaries, report }), report })
}

async function makeImages(
  folder: string,
  title: string,
  { base, binaries, report }: { base: string; binaries: Programs; report: Report },
): Promise<string> {
  const building = `${folder}.building`
  await command('rm', ['-rf', '--one-file-system', building], { timeout: 120 })
  mkdirSync(join(building, 'state'), { recursive: true })
  await timed(report, title, async detail => {
    detail('writing their layers')
    const layers = {} as Record<Layer, { file: string; digest: string }>
    for (const layer of ['kubernetes', 'iptables', 'coredns', 'canary'] as const) {
      const content = join(building, 'layers', layer)
      mkdirSync(content, { recursive: true })
      await fillLayer(layer, content, base, binaries)
      const file = join(building, 'archive', `${layer}.tar`)
      mkdirSync(dirname(file), { recursive: true })
      await command(
        'tar',
        ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', '-C', content, '-cf', file, '.'],
        { timeout: 120 },
      )
      layers[layer] = { file, digest: await sha256(file) }
    }
    writeArchive(join(building, 'archive'), layers)
    await command('tar', ['-C', join(building, 'archive'), '-cf', join(building, 'images.tar'), '.'], { timeout: 120 })
    detail('importing them into containerd')
    await importImages(base, building)
    renameSync(join(building, 'state'), folder)
    await command('rm', ['-rf', '--one-file-system', building], { timeout: 120 })
  })
  return folder
}

/** The name of a cached file says what it was made of; one from elsewhere is known by its content. */
async function fileIdentity(path: string): Promise<string> {
  return path.startsWith(cacheFolder()) ? path : await sha256(path)
}

async function fillLayer(layer: Layer, content: string, base: string, binaries: Programs): Promise<void> {
  if (layer === 'canary') {
    place(binaries.canary, join(content, 'canary'))
    place(binaries.canary, join(content, 'pause'))
  } else if (layer === 'coredns') place(binaries.coredns, join(content, 'coredns'))
  else if (layer === 'kubernetes') {
    const folder = join(content, 'usr/local/bin')
    mkdirSync(folder, { recursive: true })
    mkdirSync(join(content, 'tmp'), { mode: 0o1777 })
    place(binaries.kubernetes, join(folder, 'kubernetes'))
    for (const program of everyProgram) symlinkSync('kubernetes', join(folder, program))
  } else await copyIptables(base, content)
}

function place(from: string, to: string): void {
  try {
    linkSync(from, to)
  } catch {
    copyFileSync(from, to)
  }
}

/** The base's iptables with all it needs to run: its names, extensions and libraries. */
async function copyIptables(base: string, content: string): Promise<void> {
  const copied = new Set<string>()
  // Follows links by hand: an absolute one means a path in the base, not on this machine.
  const copy = (path: string): void => {
    const parent = dirname(path)
    if (parent !== '/') copyParents(parent)
    const source = join(base, path)
    const target = join(content, path)
    if (copied.has(path) || existsSync(target)) return
    copied.add(path)
    mkdirSync(dirname(target), { recursive: true })
    if (lstatSync(source).isSymbolicLink()) {
      const link = readlinkSync(source)
      symlinkSync(link, target)
      copy(link.startsWith('/') ? link : join(parent, link))
    } else if (lstatSync(source).isFile()) place(source, target)
  }
  // /lib is a link to /usr/lib.
  const copyParents = (path: string): void => {
    const top = `/${path.split('/')[1]}`
    if (lstatSync(join(base, top)).isSymbolicLink() && !copied.has(top)) {
      copied.add(top)
      const link = readlinkSync(join(base, top))
      mkdirSync(join(content, link), { recursive: true })
      symlinkSync(link, join(content, top))
    }
  }
  const names = readdirSync(join(base, 'usr/sbin')).filter(name =>
    /^(ip6?tables(-.*)?|xtables-(nft|legacy)-multi)$/.test(name),
  )
  for (const name of names.filter(name => !name.endsWith('-apply'))) copy(`/usr/sbin/${name}`)
  const extensions = (await command('find', [join(base, 'usr/lib'), '-path', '*/xtables/*.so'])).trimEnd().split('\n')
  for (const extension of extensions) copy(extension.slice(base.length))
  const needed = await command(
    'chroot',
    [base, 'sh', '-c', 'ldd /usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi /usr/lib/*/xtables/*.so'],
    { timeout: 120 },
  )
  for (const library of new Set(needed.match(/\/\S+\.so\S*(?= \(0x)/g))) copy(library)
  for (const folder of ['run', 'etc', 'tmp', 'var']) mkdirSync(join(content, folder), { recursive: true })
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}

/** Writes what makes an archive of images out of a folder of layers. */
function writeArchive(folder: string, layers: Record<Layer, { digest: string }>): void {
  const manifest = images.map((image, index) => {
    const config = {
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      created: '1970-01-01T00:00:00Z',
      config: {
        Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
        ...(image.entrypoint ? { Entrypoint: [image.entrypoint] } : {}),
      },
      rootfs: { type: 'layers', diff_ids: image.layers.map(layer => `sha256:${layers[layer].digest}`) },
    }
    writeWhole(join(folder, `config-${index}.json`), JSON.stringify(config))
    return {
      Config: `config-${index}.json`,
      RepoTags: image.names.map(name => `${imageRepository}/${name}`),
      Layers: image.layers.map(layer => `${layer}.tar`),
    }
  })
  writeWhole(join(folder, 'manifest.json'), JSON.stringify(manifest))
}

/** Runs the base's containerd for as long as an import takes, where it can leave nothing behind. */
async function importImages(base: string, building: string): Promise<void> {
  const root = join(building, 'root')
  for (const part of ['root', 'upper', 'work']) mkdirSync(join(building, part))
  const script = `
    mount -t overlay -o lowerdir=${base},upperdir=${building}/upper,workdir=${building}/work rekey ${root}
    mount --bind ${building}/state ${root}/var/lib/containerd
    mount -t proc proc ${root}/proc
    mount --rbind /dev ${root}/dev
    cp ${building}/images.tar ${root}/tmp/images.tar
    printf 'version = 2\\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\\n' > ${root}/tmp/containerd.toml
    chroot ${root} sh -euc '
      PATH=/usr/sbin:/usr/bin:/sbin:/bin
      containerd --config /tmp/containerd.toml > /tmp/containerd.log 2>&1 &
      pid=$!
      tries=0
      until ctr version > /dev/null 2>&1; do
        tries=$((tries + 1))
        if test $tries -gt 150; then cat /tmp/containerd.log >&2; exit 1; fi
        sleep 0.1
      done
      ctr --namespace k8s.io images import /tmp/images.tar
      kill $pid
      wait || true'`
  const result = await tryCommand(
    'unshare',
    ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', 'sh', '-euc', script],
    { timeout: 180 },
  )
  if (result.code !== 0)
    throw new RekeyError(`importing the images failed: ${lastLines(result.stderr || result.stdout)}`, {
      code: 'lab.images',
    })
}
