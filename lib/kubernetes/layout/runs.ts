// How a component runs on a host: which of its processes, by a manifest or a unit, and whether these say what the process does.
import { load } from 'js-yaml'
import { HostFailedError } from '../../errors.ts'
import { differences, flagsOfEnvironment, flagsOfWords } from './flags.ts'
import type { FoundFile, FoundProcess, FoundText, FoundUnit } from './found-text.ts'
import { type ComponentName, componentNames, type PodRun, type StaticPodRun, type UnitRun } from './host-layout.ts'
import type { Flags } from './named-files.ts'

/** How a component was found to run. */
export interface FoundRun {
  readonly runs: StaticPodRun | UnitRun | PodRun
  readonly processes: readonly FoundProcess[]
  /** By its process; where it has none, by its manifest or unit. */
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly cwd: string
  /** Where folders of its pod come from on the host, by where it sees them. */
  readonly mounts: readonly (readonly [inside: string, outside: string])[]
  readonly drift: readonly string[]
}

/** What carries all components in one process, and what rotates its CA instead. */
const distributions: readonly (readonly [program: RegExp, name: string, hint: string])[] = [
  [
    /^k3s(-server|-agent)?$/,
    'k3s',
    'It rotates its CAs itself: k3s certificate rotate-ca (docs.k3s.io/cli/certificate).',
  ],
  [/^rke2$/, 'RKE2', 'It rotates its CAs itself: rke2 certificate rotate-ca (docs.rke2.io/security/certificates).'],
  [/^kubelite$/, 'MicroK8s', 'It does so itself: microk8s refresh-certs.'],
  [/^k0s$/, 'k0s', 'It keeps its CAs itself: k0s has a procedure of its own for them (docs.k0sproject.io).'],
]

/** Whose the control plane is, or who makes the machines anew, by the labels that they give their kubelets; and what rotates its CA instead. */
const owners: readonly (readonly [label: RegExp, name: string, hint: string])[] = [
  [/\beks\.amazonaws\.com\//, 'EKS', 'Amazon keeps its CA, and rotates it: docs.aws.amazon.com/eks.'],
  [
    /\bcloud\.google\.com\/gke-/,
    'GKE',
    'Google keeps its CA: gcloud container clusters update NAME --start-credential-rotation, then --complete-credential-rotation.',
  ],
  [
    /\bkubernetes\.azure\.com\/(mode|nodepool-type)=/,
    'AKS',
    'Microsoft keeps its CA: az aks rotate-certs -g GROUP -n NAME.',
  ],
  [/\bdoks\.digitalocean\.com\//, 'DOKS', 'DigitalOcean keeps its CA: docs.digitalocean.com/products/kubernetes.'],
  [
    /\bkops\.k8s\.io\//,
    'kOps',
    'Its machines are made anew from its state store: rekey run rotate-kops -e cluster=… -e state=s3://…, without an inventory.',
  ],
]

/**
 * How each component runs on a host.
 * @throws HostFailedError where it runs in a way that rekey can't restart it by, and says which
 */
export function runsOf(found: FoundText, host: string): Map<ComponentName, FoundRun> {
  refuseDistributions(found, host)
  refuseOwned(found, host)
  const manifests = manifestsOf(found)
  return new Map(
    componentNames.flatMap(component => {
      const run = runOf(component, found, host, manifests)
      return run ? [[component, run] as const] : []
    }),
  )
}

function refuseDistributions({ processes, units }: FoundText, host: string): void {
  const programs = [
    ...processes.flatMap(({ exe, words: [first = ''] }) => [baseName(exe), baseName(first.split(' ')[0] ?? '')]),
    ...units.filter(isInUse).map(unit => baseName(startOf(unit)?.program ?? '')),
  ]
  for (const [pattern, name, hint] of distributions) {
    if (!programs.some(program => pattern.test(program))) continue
    throw new HostFailedError(`${host} runs ${name}, whose components are one process with files of its own`, {
      code: 'layout.distribution',
      host,
      hint,
    })
  }
}

function refuseOwned({ processes, units }: FoundText, host: string): void {
  const labels = [
    ...processes.filter(process => componentOf(process) === 'kubelet').flatMap(({ words }) => labelsOf(words)),
    ...units.filter(isInUse).flatMap(unit => labelsOf((startOf(unit)?.line ?? '').split(' '))),
  ]
  const [, name, hint] = owners.find(([label]) => labels.some(text => label.test(text))) ?? []
  if (name === undefined) return
  throw new HostFailedError(`${host} is a machine of ${name}, whose CAs are not those of its machines`, {
    code: 'layout.owned',
    host,
    hint,
  })
}

/** What a kubelet is told to label its node with. */
const labelsOf = (words: readonly string[]): string[] =>
  words.flatMap((word, index) =>
    word.startsWith('--node-labels=') ? [word] : word === '--node-labels' ? [words[index + 1] ?? ''] : [],
  )

function runOf(
  component: ComponentName,
  found: FoundText,
  host: string,
  manifests: ReadonlyMap<ComponentName, Manifest>,
): FoundRun | undefined {
  const own = found.processes.filter(process => componentOf(process) === component)
  const places = own.map(process => ({ process, place: placeOf(process) }))
  for (const { process, place } of places) {
    if (place.kind !== 'elsewhere') continue
    throw new HostFailedError(
      `${host} runs ${component} (process ${process.pid}) in ${place.what}, and not as a unit or a pod`,
      {
        code: 'layout.unknown-shape',
        host,
        hint: 'rekey restarts what systemd or a kubelet starts by itself: containers that somebody runs, and processes that were started by hand, it does not.',
      },
    )
  }
  const manifest = manifests.get(component)
  const ofUnits = new Set(places.flatMap(({ place }) => (place.kind === 'unit' ? [place.unit] : [])))
  const inPods = own.filter(process => placeOf(process).kind === 'pod')
  if (ofUnits.size > 1 || (ofUnits.size > 0 && manifest && inPods.length > 0)) {
    const all = [...ofUnits, ...(manifest && inPods.length > 0 ? [manifest.path] : [])]
    throw new HostFailedError(`${host} runs ${component} more than once: ${all.join(', ')}`, {
      code: 'layout.more-than-one',
      host,
      hint: 'rekey knows one of each component on a host.',
    })
  }
  const [unitName] = ofUnits
  if (unitName !== undefined || !manifest) {
    const unit = found.units.find(one =>
      unitName === undefined ? isInUse(one) && startOf(one) && programOf(one) === component : one['Id'] === unitName,
    )
    if (unit) return ofUnit(component, unit, own, found, host)
    if (unitName !== undefined) return unknownUnit(component, unitName, host)
    return inPods.length > 0 ? ofPod(component, inPods, host) : undefined
  }
  return ofManifest(manifest, inPods)
}

/** The component that a process is: by its program, or by the first word after hyperkube. */
function componentOf({ exe, words }: FoundProcess): ComponentName | undefined {
  const program = [baseName(exe), baseName(words[0] ?? '')]
  const called = program.includes('hyperkube') ? [baseName(words[1] ?? '')] : program
  return componentNames.find(name => called.includes(name))
}

type Place =
  | { readonly kind: 'pod' }
  | { readonly kind: 'unit'; readonly unit: string }
  | { readonly kind: 'elsewhere'; readonly what: string }

function placeOf({ cgroups }: FoundProcess): Place {
  if (cgroups.some(path => path.includes('kubepods'))) return { kind: 'pod' }
  const parts = cgroups.flatMap(path => path.split('/').filter(Boolean))
  const container = parts.find(part => /^(docker|libpod|nerdctl|cri-containerd|crio|podman)([-.:]|$)/.test(part))
  if (container !== undefined) return { kind: 'elsewhere', what: `a container (${container})` }
  const unit = parts.findLast(part => part.endsWith('.service'))
  if (unit !== undefined && !unit.startsWith('user@')) return { kind: 'unit', unit }
  return { kind: 'elsewhere', what: parts.at(-1) ?? 'no unit of systemd' }
}

/** A unit that runs, or is to run at the next boot. */
function isInUse(unit: FoundUnit): boolean {
  return (
    unit['ActiveState'] === 'active' ||
    unit['ActiveState'] === 'activating' ||
    /^enabled/.test(unit['UnitFileState'] ?? '')
  )
}

/** What a unit starts, by `ExecStart={ path=/usr/bin/etcd ; argv[]=/usr/bin/etcd --name m1 ; ignore_errors=no ; … }`. */
function startOf(unit: FoundUnit): { readonly program: string; readonly line: string } | undefined {
  const [begin, between] = ['{ path=', ' ; argv[]=']
  const text = unit['ExecStart'] ?? ''
  const words = text.indexOf(between)
  const end = text.indexOf(' ; ignore_errors=', words)
  if (!text.startsWith(begin) || words <= begin.length || end === -1) return undefined
  return { program: text.slice(begin.length, words), line: text.slice(words + between.length, end) }
}

function programOf(unit: FoundUnit): string {
  const { program = '', line = '' } = startOf(unit) ?? {}
  return baseName(program) === 'hyperkube' ? baseName(line.split(/\s+/)[1] ?? '') : baseName(program)
}

function ofUnit(
  component: ComponentName,
  unit: FoundUnit,
  processes: readonly FoundProcess[],
  { environments }: FoundText,
  host: string,
): FoundRun {
  const { Id: id = '', FragmentPath: fragment = '', DropInPaths: dropIns = '' } = unit
  if (programOf(unit) !== component) {
    throw new HostFailedError(
      `${id} of ${host} starts ${startOf(unit)?.program ?? 'nothing'}, and not ${component} itself`,
      {
        code: 'layout.wrapper',
        host,
        hint: 'What a script or a container runtime starts for a unit, rekey can neither compare with the unit nor change the flags of.',
      },
    )
  }
  const environmentFiles = (unit['EnvironmentFiles'] ?? '')
    .split(/\s+|\n/)
    .map(word => word.replace(/^-/, ''))
    .filter(word => word.startsWith('/'))
  const environment = {
    ...environmentOfUnit(unit['Environment'] ?? ''),
    ...Object.assign({}, ...environmentFiles.map(path => environments.get(path) ?? {})),
  } as Record<string, string>
  const words = expanded(startOf(unit)?.line ?? '', environment)
  const [process] = processes
  const written = flagsOfWords(words.slice(1))
  const drift = [
    ...(unit['NeedDaemonReload'] === 'yes'
      ? [`${id} was changed, and systemd was not told (systemctl daemon-reload)`]
      : []),
    ...(process ? differences(written, flagsOfWords(process.words.slice(1).join(' ').split(/\s+/)), id) : []),
    ...(process && component === 'etcd'
      ? differences(ofEtcd(environment), ofEtcd(process.environment), `the environment of ${id}`)
      : []),
  ]
  return {
    runs: {
      kind: 'unit',
      unit: id,
      definition: [fragment, ...dropIns.split(/\s+/)].filter(Boolean),
      environmentFiles,
      type: unit['Type'] ?? 'simple',
    },
    processes,
    words: process?.words ?? words,
    environment: process ? process.environment : environment,
    cwd: process?.cwd ?? (unit['WorkingDirectory']?.replace(/^!/, '') || '/'),
    mounts: [],
    drift,
  }
}

/** Without what is taken out of what is printed. */
const ofEtcd = (environment: Readonly<Record<string, string>>): Flags =>
  Object.fromEntries(
    // What begins a cluster is of no account once there is one: Kubespray writes another state there afterwards.
    Object.entries(flagsOfEnvironment(environment)).filter(
      ([name]) => !/^initial-|token|password|secret|user/.test(name),
    ),
  )

function unknownUnit(component: ComponentName, unit: string, host: string): never {
  throw new HostFailedError(`${host} runs ${component} in ${unit}, and systemd does not tell how`, {
    code: 'layout.unknown-shape',
    host,
    hint: `See systemctl show ${unit}: rekey needs its ExecStart.`,
  })
}

/** `A=b "C=d e"`, as systemctl shows `Environment=`. */
function environmentOfUnit(text: string): Record<string, string> {
  const words = text.match(/"[^"]*"|\S+/g) ?? []
  return Object.fromEntries(
    words
      .map(word => word.replace(/^"(.*)"$/, '$1'))
      .filter(word => word.includes('='))
      .map(word => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)]),
  )
}

/** The words of a command line with its variables as systemd puts them in: `$A` as words, `${A}` within one. */
function expanded(line: string, environment: Readonly<Record<string, string>>): string[] {
  return line
    .split(/\s+/)
    .flatMap(word => {
      const [, bare] = /^\$(\w+)$/.exec(word) ?? []
      if (bare !== undefined) return (environment[bare] ?? '').split(/\s+/)
      return [word.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => environment[name] ?? '').replaceAll('$$', '$')]
    })
    .filter(Boolean)
}

function ofPod(component: ComponentName, processes: readonly FoundProcess[], host: string): FoundRun {
  if (component !== 'kube-proxy') {
    throw new HostFailedError(`${host} runs ${component} in a pod that no manifest on it describes`, {
      code: 'layout.unknown-shape',
      host,
      hint: 'A control plane that the cluster itself runs as workloads is none that rekey knows.',
    })
  }
  const [first] = processes
  return {
    ...{ runs: { kind: 'pod' }, processes, words: first?.words ?? [], environment: {} },
    ...{ cwd: '/', mounts: [], drift: [] },
  }
}

/** A static pod of a component. */
interface Manifest {
  readonly path: string
  readonly words: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly mounts: readonly (readonly [inside: string, outside: string])[]
}

interface PodTree {
  readonly kind?: string
  readonly spec?: {
    readonly containers?: readonly {
      readonly command?: readonly string[]
      readonly args?: readonly string[]
      readonly env?: readonly { readonly name: string; readonly value?: string }[]
      readonly volumeMounts?: readonly {
        readonly name: string
        readonly mountPath: string
        readonly subPath?: string
      }[]
    }[]
    readonly volumes?: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[]
  }
}

function manifestsOf({ files }: FoundText): Map<ComponentName, Manifest> {
  const found = new Map<ComponentName, Manifest>()
  for (const file of files.values()) {
    const pod = podOf(file)
    for (const container of pod?.spec?.containers ?? []) {
      const words = [...(container.command ?? []), ...(container.args ?? [])].map(String)
      const component = componentNames.find(name => baseName(words[0] ?? '') === name)
      if (component === undefined || found.has(component)) continue
      const mounts = (container.volumeMounts ?? []).flatMap(({ name, mountPath, subPath }) => {
        const outside = pod?.spec?.volumes?.find(volume => volume.name === name)?.hostPath?.path
        return outside === undefined ? [] : [[mountPath, subPath ? `${outside}/${subPath}` : outside] as const]
      })
      const environment = Object.fromEntries((container.env ?? []).map(({ name, value = '' }) => [name, value]))
      found.set(component, { path: file.path, words, environment, mounts })
    }
  }
  return found
}

function podOf({ text }: FoundFile): PodTree | undefined {
  if (!/^[ \t]*"?kind"?:\s*"?Pod\b/m.test(text)) return undefined
  try {
    return load(text) as PodTree
  } catch {
    return undefined
  }
}

function ofManifest({ path, words, environment, mounts }: Manifest, processes: readonly FoundProcess[]): FoundRun {
  const [process] = processes
  // `$(NAME)` is put in by the kubelet.
  const written = Object.fromEntries(
    Object.entries(flagsOfWords(words.slice(1))).filter(([, values]) => !values.some(value => value.includes('$('))),
  )
  const running = process ? flagsOfWords(process.words.slice(1)) : {}
  const compared = Object.fromEntries(
    Object.entries(running).filter(([name]) => name in written || !words.some(word => word.startsWith(`--${name}=`))),
  )
  return {
    runs: { kind: 'static-pod', manifest: path },
    processes,
    words: process?.words ?? words,
    environment: process && Object.keys(process.environment).length > 0 ? process.environment : environment,
    cwd: '/',
    mounts,
    drift: process ? differences(written, compared, path) : [],
  }
}

const baseName = (path: string) => path.slice(path.lastIndexOf('/') + 1)
