// What steps are given: what the run knows, and what it takes to work on a host.
import { basename } from 'node:path'
import type { Connection } from '../connection/connection.ts'
import { type FileWatcher, remoteFiles } from '../connection/files.ts'
import { type RemoteObserver, remoteShell } from '../connection/remote.ts'
import { RekeyError, shown } from '../errors.ts'
import { type Host, type HostSource, namedHost } from '../playbook/host.ts'
import type { HostSession, RunContext, Timeline } from '../playbook/model.ts'
import { requireSecret } from '../secrets/index.ts'
import { eventTime } from './events.ts'
import { runsDirectory } from './folder/folder.ts'
import { requireOwnFolder } from './folder/trust.ts'
import type { Sessions } from './hosts/sessions.ts'
import { findRun, runFolders } from './journal/history.ts'
import type { RunOptions } from './options.ts'
import { destroySecretsIn } from './registered/registered.ts'

/** The part of every step's context that is the same on all hosts. */
export function runContext(
  options: RunOptions,
  sessions: Sessions,
  { plays, started }: { plays: Timeline['plays']; started: number },
): RunContext {
  const began = eventTime() - (performance.now() - started)
  const milestones = new Map([...(options.earlier?.milestones ?? [])].map(([name, at]) => [name, at - began]))
  const { inventory, limit, signal, emit, registered } = options
  return {
    run: options.run,
    folder: options.folder,
    vars: options.vars as Record<string, unknown>,
    mode: options.earlier?.mode ?? 'run',
    check: options.check ?? false,
    takeLock: options.takeLock ?? false,
    signal,
    hosts: pattern => inventory.select(pattern).filter(({ name }) => !limit || limit.has(name)),
    on: async name => {
      const host = typeof name === 'string' ? hostNamed(inventory, name) : name
      return hostSession(host, await sessions.open(host), signal)
    },
    log: text => emit({ kind: 'notice', text: textOf(text) }),
    milestone: name => {
      if (milestones.has(name)) return
      milestones.set(name, performance.now() - started)
      emit({ kind: 'milestone', name })
    },
    timeline: { began, plays, milestones },
    redact: requireSecret,
    registered: <T>(id: string, host?: string) => registered.get(id, host) as T | undefined,
    otherRun: reference => {
      const folder = findRun(reference, runsDirectory())
      requireOwnFolder(folder)
      return folder
    },
    otherRuns: () => ownRuns().filter(folder => folder !== options.folder),
    destroySecrets: isMeant =>
      ownRuns().flatMap(folder => (destroySecretsIn(folder, isMeant) > 0 ? [basename(folder)] : [])),
  }
}

/** The folders of all runs that are kept here. Throws `RekeyError` where others may have written what lies in one of them. */
function ownRuns(): string[] {
  const folders = runFolders(runsDirectory())
  folders.forEach(requireOwnFolder)
  return folders
}

/** What a playbook's code gave for a text: anything may come from code without types. */
export function textOf(given: unknown): string {
  return typeof given === 'string' ? given : shown(given)
}

/** What it takes to work on a host over its connection. */
export function hostSession(
  host: Host,
  connection: Connection,
  signal: AbortSignal,
  observer: Pick<RemoteObserver, 'output' | 'began'> = {},
  watch?: FileWatcher,
): HostSession {
  return {
    host,
    $: remoteShell(connection, { signal, ...observer }),
    files: remoteFiles(connection, signal, watch),
    forward: (address, port) => connection.forward(address, port),
  }
}

/** The host of a name. Throws where the inventory has none. */
export function hostNamed(inventory: HostSource, name: string): Host {
  const host = namedHost(inventory, name)
  if (!host) throw new RekeyError(`there is no host '${name}' in the inventory`, { code: 'run.unknown-host' })
  return host
}
