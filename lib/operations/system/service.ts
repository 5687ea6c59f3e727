// `service`: units of systemd as they shall be: started, enabled, masked. One look and one change for all that are named.
import { raw } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { type HostSession, unchanged } from '../../playbook/model.ts'
import { notedList } from '../notes.ts'
import { operation } from '../operation.ts'
import { checkedOptions, type Kinds, oneOf, truth, wrongOptions } from '../options.ts'

/** A unit, and how it shall be. What is not said stays. */
export interface ServiceOptions {
  /** The unit; `.service` may be left out. Without one there is only `daemonReload`. */
  readonly name?: string
  /** `restarted` and `reloaded` do so each time; a unit that does not run is started. */
  readonly state?: 'started' | 'stopped' | 'restarted' | 'reloaded'
  /** Whether it is started with the machine. */
  readonly enabled?: boolean
  /** Whether nothing can start it. */
  readonly masked?: boolean
  /** Has systemd read the files of units first, where they are not what it has read: those of this one or, without a name, of any. */
  readonly daemonReload?: boolean
}

/** How systemd has a unit. */
export interface UnitState {
  readonly name: string
  /** `loaded`, `not-found`, `masked`, `error` … */
  readonly load: string
  /** `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading` … */
  readonly active: string
  /** What `systemctl is-enabled` says, and whether that counts as enabled. */
  readonly file: string
  readonly enabled: boolean
  /** Its files are not what systemd has read. */
  readonly stale: boolean
  readonly error?: string
}

/** What is done to a unit, in this order. */
type Verb = 'unmask' | 'mask' | 'enable' | 'disable' | 'start' | 'stop' | 'restart' | 'reload'
type Deed = readonly [verb: Verb, name: string]

/** Makes units of systemd be as they shall be. Registers how each is then. A unit that is not there is an error, unless it is only masked. */
export const service = operation<ServiceOptions, readonly UnitState[]>({
  name: 'service',
  check: given => checkTogether(checkedOptions<ServiceOptions>('service', given, kinds)),
  look: async (context, wanted) => {
    const found = await look(context, wanted)
    const reload = wanted.some(
      ({ daemonReload }, index) => daemonReload && (found[index]!.stale || found[index]!.load === 'not-found'),
    )
    const deeds = wanted.flatMap((options, index) => deedsFor(context, options, found[index]!))
    return {
      would: [
        ...(reload ? ['have systemd read its units anew'] : []),
        ...deeds.map(([verb, name]) => `${verb} ${name}`),
      ],
      result: found,
      keep: () => found.flatMap((state, index) => wayBack(state, deeds, wanted[index]!)),
      apply: async () => {
        await perform(context, deeds, reload)
        const now = await look(context, wanted)
        prove(context, deeds, now)
        // As in Ansible, that alone changes nothing.
        return deeds.length === 0 ? (unchanged(now) as never) : now
      },
    }
  },
  undo: async (session, kept: readonly Deed[]) => {
    const now = await look(
      session,
      kept.map(([, name]) => ({ name })),
    )
    const due = kept.filter((deed, index) => now[index]!.load !== 'not-found' && !isDone(deed, now[index]!))
    await perform(session, due, false)
    prove(
      session,
      due,
      await look(
        session,
        due.map(([, name]) => ({ name })),
      ),
    )
  },
  kept: notedList<Deed>('units', isDeed),
})

const kinds: Kinds<ServiceOptions> = {
  name: {
    words: 'the name of one unit',
    fits: value => typeof value === 'string' && /^[A-Za-z0-9@:_.\\][A-Za-z0-9@:_.\\-]*$/.test(value),
  },
  state: oneOf('started', 'stopped', 'restarted', 'reloaded'),
  enabled: truth,
  masked: truth,
  daemonReload: truth,
}

function checkTogether(options: ServiceOptions): ServiceOptions {
  const { name, state, enabled, masked, daemonReload } = options
  const asked = [state, enabled, masked].filter(one => one !== undefined).length
  if (name === undefined && asked > 0) throw wrongOptions('service() needs name')
  if (asked === 0 && daemonReload === undefined) {
    throw wrongOptions('service(): one of state, enabled, masked and daemonReload must be given')
  }
  return options
}

const properties = ['LoadState', 'ActiveState', 'LoadError', 'NeedDaemonReload'].map(one => `-p ${one}`).join(' ')

/** Asks systemd for units, all at once; without a name, whether there is any whose files it has not read. */
async function look({ $, host }: HostSession, wanted: readonly ServiceOptions[]): Promise<UnitState[]> {
  if (wanted.length === 0) return []
  const named = wanted.map(({ name }) => name ?? '')
  const script = `command -v systemctl >/dev/null || { echo 'it has no systemctl' >&2; exit 1; }
for u in "$@"; do
  if [ -z "$u" ]; then systemctl show -p NeedDaemonReload '*' | grep -m1 =yes; echo ==; continue; fi
  systemctl show ${properties} -- "$u" || exit
  f=$(systemctl is-enabled -- "$u" 2>/dev/null); echo "Enabled=$?"; echo "File=$f"; echo ==
done`
  const { exitCode, stdout, stderr } = await $({ quiet: true, nothrow: true })`set -- ${named}
${raw(script)}`
  const parts = stdout.split(/^==\n/m)
  if (exitCode !== 0 || parts.length <= named.length) throw failed(host.name, 'systemd can’t be asked', stderr)
  return named.map((name, index) => {
    const said = new Map(
      parts[index]!.split('\n')
        .filter(Boolean)
        .map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
    )
    const [file = '', error] = [said.get('File')?.split('\n')[0], said.get('LoadError')]
    return {
      name,
      load: said.get('LoadState') ?? '',
      active: said.get('ActiveState') ?? '',
      file,
      enabled: said.get('Enabled') === '0' && !['enabled-runtime', 'indirect', 'alias'].includes(file),
      stale: said.get('NeedDaemonReload') === 'yes',
      ...(error ? { error } : {}),
    }
  })
}

const runs = ({ active }: UnitState) => active === 'active' || active === 'activating'
const isMasked = ({ file, load }: UnitState) => file === 'masked' || load === 'masked'

function deedsFor({ host }: HostSession, options: ServiceOptions, state: UnitState): Deed[] {
  const { name, state: asked, enabled, masked, daemonReload } = options
  if (name === undefined) return []
  const found = state.load !== 'not-found' || daemonReload === true
  if (state.error && state.load !== 'not-found' && !isMasked(state)) {
    throw failed(host.name, `${name} can’t be loaded`, `systemd says ${state.error}`)
  }
  if (!found && (asked !== undefined || enabled !== undefined)) {
    throw new HostFailedError(`${host.name} has no unit ${name}`, {
      code: 'service.not-found',
      host: host.name,
      hint: 'Is its package installed? Where an earlier step writes its file: daemonReload: true.',
    })
  }
  const verbs: Verb[] = []
  if (masked === false && state.file === 'masked') verbs.push('unmask')
  if (enabled !== undefined && enabled !== state.enabled) verbs.push(enabled ? 'enable' : 'disable')
  if (asked === 'stopped') {
    if (runs(state) || state.active === 'deactivating') verbs.push('stop')
  } else if (asked !== undefined && !runs(state)) verbs.push('start')
  else if (asked === 'restarted') verbs.push('restart')
  else if (asked === 'reloaded') verbs.push('reload')
  // What is masked is neither stopped nor disabled thereby.
  if (masked && state.file !== 'masked') verbs.push('mask')
  return verbs.map(verb => [verb, name] as const)
}

/** A deed as it may be noted. */
function isDeed(one: unknown): boolean {
  return Array.isArray(one) && one.length === 2 && waysBack.includes(one[0]) && kinds.name.fits(one[1])
}

const waysBack: readonly Verb[] = ['unmask', 'mask', 'enable', 'disable', 'start', 'stop']

/** What makes a unit as it was; a unit that was only restarted is as it was. */
function wayBack(state: UnitState, deeds: readonly Deed[], { name }: ServiceOptions): Deed[] {
  const done = new Set(deeds.filter(([, whose]) => whose === name).map(([verb]) => verb))
  const back: Verb[] = []
  if (done.has('mask')) back.push('unmask')
  if (done.has('enable') || done.has('disable')) back.push(done.has('enable') ? 'disable' : 'enable')
  if (done.has('start') && !runs(state)) back.push('stop')
  if (done.has('stop')) back.push('start')
  // Only what does not run any more, and nobody enables, is masked.
  if (done.has('unmask')) back.push('mask')
  return name === undefined ? [] : back.map(verb => [verb, name] as const)
}

function isDone([verb]: Deed, state: UnitState): boolean {
  if (verb === 'mask' || verb === 'unmask') return (state.file === 'masked') === (verb === 'mask')
  if (verb === 'enable' || verb === 'disable') return state.enabled === (verb === 'enable')
  if (verb === 'stop') return !runs(state)
  // A unit that has done what it had to is inactive.
  return verb === 'start' ? runs(state) : state.active !== 'failed'
}

async function perform({ $, host }: HostSession, deeds: readonly Deed[], reload: boolean): Promise<void> {
  if (deeds.length === 0 && !reload) return
  const lines = deeds.map(([verb, name]) => `systemctl ${verb} -- '${name}' || { echo "${verb} failed" >&2; exit 1; }`)
  const script = [...(reload ? ['systemctl daemon-reload || exit'] : []), ...lines].join('\n')
  const { exitCode, stderr } = await $({ nothrow: true })`${raw(script)}`
  if (exitCode === 0) return
  const names = [...new Set(deeds.map(([, name]) => name))].join(', ')
  throw failed(host.name, names === '' ? 'systemd could not read its units' : `${names} could not be changed`, stderr)
}

/** A unit may fail a moment after systemctl was done: what can be seen is told. */
function prove({ host }: HostSession, deeds: readonly Deed[], now: readonly UnitState[]): void {
  for (const state of now) {
    const broken = deeds
      .filter(([, name]) => name === state.name)
      .find(deed => (deed[0] === 'start' ? state.active === 'failed' : !isDone(deed, state)))
    if (!broken) continue
    throw new HostFailedError(`${host.name}: ${state.name} is ${state.active} (${state.file}) after ${broken[0]}`, {
      code: 'service.state',
      host: host.name,
      hint: `See why: journalctl -u ${state.name}`,
    })
  }
}

function failed(host: string, what: string, why: string): HostFailedError {
  return new HostFailedError(`${host}: ${what}: ${why.trim() || 'it says nothing'}`, { code: 'service.failed', host })
}
