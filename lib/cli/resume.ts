// `rekey resume`: goes on with a run where it stopped.
import { existsSync } from 'node:fs'
import { basename } from 'node:path'
import { Command } from 'commander'
import { RekeyError } from '../errors.ts'
import { unfinished, waiting } from '../output/history.ts'
import { findPlaybook, loadPlaybook, shippedPlaybooks } from '../playbook/load.ts'
import type { Playbook } from '../playbook/model.ts'
import { isAlive } from '../process-identity.ts'
import { stillRunning } from '../run/folder/claim.ts'
import { type ConnectionCommand, readCommand, writeCommand } from '../run/folder/command-file.ts'
import { referenceOf } from '../run/folder/folder.ts'
import { hostsOf, isDone, type RunHistory, type RunStarted } from '../run/journal/history.ts'
import {
  inventoryChanges,
  type Provenance,
  playbookHash,
  projectCommit,
  provenanceOf,
} from '../run/journal/provenance.ts'
import { rollbackCommand } from '../run/rollback.ts'
import { hostsIn, selectPlays } from '../run/run.ts'
import { withAnsibleWords } from './options/ansible-words.ts'
import {
  type ConnectionOptions,
  connectionCommand,
  openConnecting,
  withConnectionOptions,
} from './options/connection.ts'
import { type InventoryOptions, inventoryCommand, openInventory, withInventoryOptions } from './options/inventory.ts'
import { viewOf } from './options/output.ts'
import { leftToRun } from './options/settable.ts'
import { playbookFolders } from './options/settings.ts'
import { type ClusterOptions, withClusterOptions } from './run.ts'
import { requireTerminal } from './running/confirm.ts'
import { type Execution, execute, limitOf, variablesOf } from './running/execute.ts'
import { openRun, requireWord } from './taking-up/run-folder.ts'

export interface ResumeOptions extends InventoryOptions, ConnectionOptions, ClusterOptions {
  acceptChangedInventory?: boolean
  acceptChangedPlaybook?: boolean
  acceptRunFolder?: boolean
  playbook?: string
}

export function resumeCommand(): Command {
  const command = new Command('resume')
    .description('go on with a run that failed, was interrupted, or was killed')
    .argument('<run>', "its id, a part of it, 'last' (the last of a playbook), or the path of its folder")
  return withResumeOptions(command).action(async (reference: string, options: ResumeOptions) => {
    process.exitCode = await resume(openRun(reference), options)
  })
}

/** Adds the options of whoever takes up a run again. The inventory is the run's own where none is given. */
export function withResumeOptions(command: Command): Command {
  return withAnsibleWords(leftToRun(withClusterOptions(withConnectionOptions(withInventoryOptions(command)))))
    .option('--playbook <file>', 'where the playbook is now, on another machine: a name from playbooks/, or a path')
    .option(
      '--accept-run-folder',
      'run what a folder from elsewhere says: its playbook, inventory, passwords and options',
    )
    .option('--accept-changed-inventory', 'go on although hosts or their variables are not what they were')
    .option('--accept-changed-playbook', 'go on although the playbook is not what it was')
}

async function resume(history: RunHistory, options: ResumeOptions): Promise<number> {
  const { run, folder, latest, finished, progress, failures } = history
  if (latest.mode === 'rollback') {
    throw new RekeyError(`${run} ${finished?.outcome === 'done' ? 'is undone' : 'was being undone'}`, {
      code: 'resume.undone',
      hint:
        finished?.outcome === 'done'
          ? 'Begin a new run.'
          : `Go on with that: ${rollbackCommand(referenceOf(run, folder), latest.selection.to)}`,
    })
  }
  if (finished?.outcome === 'done') {
    throw new RekeyError(`${run} is done: there is nothing to go on with`, { code: 'resume.done' })
  }
  if (history.lostBeginning) {
    throw new RekeyError(`${run} may have been undone in part: ${history.damage.join('; ')}`, {
      code: 'resume.lost',
      hint: `Put the journal back as it was; or undo the run: ${rollbackCommand(referenceOf(run, folder))}`,
    })
  }
  const { playbook, ...execution } = await takeUp(history, options)
  return execute({
    ...execution,
    playbook,
    notices: [
      ...(execution.notices ?? []),
      ...unfinished(history).map(line => `${line}: it is done again`),
      ...waiting(history).map(line => `${line}: it runs at the end of its play`),
    ],
    earlier: {
      mode: 'resume',
      hosts: hostsOf(history),
      done: (step, host) => isDone(progress.get(step)?.get(host)),
      progress: (step, host) => progress.get(step)?.get(host),
      failure: (step, host) => failures.get(step)?.get(host),
      milestones: history.milestones,
    },
  })
}

/**
 * What going on with a run and undoing it have in common: its playbook, its inventory and its variables, as they were.
 * @param undoes whether it is undone
 * @throws RekeyError where one of them changed and nobody said that this is meant, or where the run can't be taken up
 */
export async function takeUp(
  { run, folder, first, latest, finished, damage, returned, missing }: RunHistory,
  options: ResumeOptions,
  undoes = false,
): Promise<Omit<Execution, 'playbook' | 'earlier'> & { playbook: Playbook }> {
  if (options.step) requireTerminal()
  if (first.check) throw new RekeyError(`${run} was a check: it changed nothing`, { code: 'resume.check' })
  if (first.playbookFile === '') {
    throw new RekeyError(`${run} was not made from a playbook: give its command again`, { code: 'resume.no-playbook' })
  }
  if (!finished && isAlive(latest.process)) throw stillRunning(run, latest.process)
  const commit = projectCommit()
  const read = readCommand(folder)
  const lost = 'lost' in read ? read.lost : undefined
  const command = 'command' in read ? read.command : undefined
  const given: InventoryOptions = {
    inventory: options.inventory ?? [...(command?.inventory ?? first.inventory)],
    extraVars: options.extraVars ?? [...(command?.extraVars ?? [])],
    vaultId: options.vaultId ?? [...(command?.vaultId ?? [])],
    vaultPasswordFile: options.vaultPasswordFile ?? [...(command?.vaultPasswordFile ?? [])],
    askVaultPass: options.askVaultPass ?? command?.askVaultPass,
  }
  const folders = options.playbook === undefined ? [] : playbookFolders()
  const found = options.playbook ?? playbookNow(first.playbookFile)
  await requireWord({ run, folder, playbook: found, inventory: given.inventory ?? [], command, undoes }, options)
  // Before a line of it is run.
  requireSamePlaybook(latest, findPlaybook(found, folders), options)
  const { playbook, file } = await loadPlaybook(found, folders)
  const connecting = await openConnecting({
    ...{ ...command?.connection, ...said(options) },
    connectionPasswordFile: passwordFile('connectionPasswordFile', 'askPass', options, command?.connection),
    becomePasswordFile: passwordFile('becomePasswordFile', 'askBecomePass', options, command?.connection),
    configured: Object.keys(command?.connection ?? {}).filter(name => !Object.hasOwn(said(options), name)),
  })
  const inventory = await openInventory(given, {
    ...{ playbookFile: file, plays: playbook.plays, connection: connecting.defaults },
  })
  if (lost) requireVariables(lost, first, inventory.extraVariables)
  const provenance = provenanceOf(file, inventory.fingerprints(), await commit)
  requireUnchanged(latest, provenance, options)
  const { selection } = first
  const chosen = selectPlays(playbook, { ...selection, inventory, limit: limitOf(inventory, selection.limit) })
  const hosts = hostsIn(chosen)
  await connecting.unlock(hosts)
  return {
    playbook,
    inventory,
    run,
    folder,
    vars: await variablesOf(playbook, inventory, hosts),
    provenance,
    notices: [
      ...(latest.commit === provenance.commit
        ? []
        : [`rekey is another one than before: ${latest.commit} then, ${provenance.commit} now`]),
      ...damage.map(line => `${line}: what it told of the run is not known`),
      ...(lost ? [`${lost}: how to connect, and how to read the inventory, is what this command says`] : []),
    ],
    // From now on it is known again.
    ...(lost
      ? { kept: writeCommand(folder, { ...inventoryCommand(given, inventory.sources), connection: said(options) }) }
      : {}),
    returned,
    missing,
    selection,
    takeLock: options.takeLock,
    step: options.step,
    ...viewOf(options),
  }
}

/** Where a password comes from: settings name it where the run needed one. */
function passwordFile(
  file: 'connectionPasswordFile' | 'becomePasswordFile',
  asks: 'askPass' | 'askBecomePass',
  options: ResumeOptions,
  kept: ConnectionCommand | undefined,
): string | undefined {
  return options.configured?.includes(file) && kept && !kept[asks] ? undefined : options[file]
}

/** Where the playbook of a run is: on another machine, one that is shipped with rekey may be elsewhere. */
function playbookNow(file: string): string {
  if (existsSync(file)) return file
  const name = basename(file, '.ts')
  if (shippedPlaybooks().includes(name)) return name
  throw new RekeyError(`the playbook of the run is not at ${file} any more`, {
    code: 'resume.no-playbook',
    hint: 'Say where it is now: --playbook FILE.',
  })
}

/** The options for connecting that were given, without those that were not. */
function said(options: ConnectionOptions): ConnectionOptions {
  return Object.fromEntries(Object.entries(connectionCommand(options)).filter(([, value]) => value !== undefined))
}

/** Values of variables stand nowhere else: a run goes on with those that it had, or with those that are given again. */
function requireVariables(lost: string, { selection }: RunStarted, given: readonly string[]): void {
  const missing = selection.extraVars?.filter(name => !given.includes(name)) ?? []
  if (missing.length === 0) return
  throw new RekeyError(`${lost}, and what the run was given with -e stands nowhere else: ${missing.join(', ')}`, {
    code: 'resume.command-lost',
    hint: `Put the file back as it was, or give them again: ${missing.map(name => `-e ${name}=…`).join(' ')}`,
  })
}

/** What a run was made of must be what it is gone on with. */
function requireUnchanged(before: Provenance, now: Provenance, options: ResumeOptions): void {
  const changes = inventoryChanges(before.inventoryHashes, now.inventoryHashes)
  if (changes.length > 0 && !options.acceptChangedInventory) {
    throw new RekeyError(`the inventory is not what it was in this run: ${changes.join(', ')}`, {
      code: 'resume.inventory-changed',
      hint: 'Put it back; or go on with --accept-changed-inventory: what was done is not done again for what changed.',
    })
  }
}

function requireSamePlaybook(before: Provenance, file: string, options: ResumeOptions): void {
  if (options.acceptChangedPlaybook || before.playbookHash === playbookHash(file)) return
  throw new RekeyError(`${file} is not what it was in this run`, {
    code: 'resume.playbook-changed',
    hint: 'Put it back; or go on with --accept-changed-playbook: steps are known by their ids, and what was done is not done again.',
  })
}
