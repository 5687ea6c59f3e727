// `rekey template`: consul-template's configuration, rendered from here and placed on the hosts of a pattern.
import { statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { Command } from 'commander'
import { z } from 'zod'
import { secret } from '../connection/shell.ts'
import { exitCodes, RekeyError } from '../errors.ts'
import { checkFileSet, modesOf, placeFileSet, type WantedFile } from '../operations/file-set.ts'
import { operatorName, passwdHome } from '../operator.ts'
import { openView } from '../output/open-view.ts'
import { give, tell } from '../output/print.ts'
import { redactor } from '../output/redaction.ts'
import { verifySet } from '../pki/certificates/certificate-set.ts'
import { reusingIssued } from '../pki/certificates/reuse.ts'
import type { Vault } from '../pki/vault/contract.ts'
import { vaultLists, vaultSecrets } from '../pki/vault/secrets.ts'
import { connectVault } from '../pki/vault/vault.ts'
import { authoritiesIn, vaultSettings } from '../pki/vault/vault-environment.ts'
import type { Host } from '../playbook/host.ts'
import {
  type HostSession,
  type PlannedWrite,
  type Playbook,
  play,
  playbook,
  type StepContext,
  step,
  unchanged,
  wouldWrite,
} from '../playbook/model.ts'
import { eventTime, type RunEventBody } from '../run/events.ts'
import { createRunFolder, runsDirectory } from '../run/folder/folder.ts'
import { dueCommands } from '../run/hosts/due-commands.ts'
import { searched } from '../run/journal/event-text.ts'
import { openJournal } from '../run/journal/journal.ts'
import { projectCommit, provenanceOf } from '../run/journal/provenance.ts'
import { registeredInMemory } from '../run/registered/registered.ts'
import { runPlaybook } from '../run/run.ts'
import {
  readConfiguration,
  type TemplateBlock,
  type TemplateConfiguration,
  type VaultBlock,
} from '../template/configuration.ts'
import { readInterfaces } from '../template/machine-interfaces.ts'
import { createRenderer, type Renderer } from '../template/render.ts'
import { dryText, type RenderedBlock, renderConfiguration } from '../template/render-configuration.ts'
import { type CaKeyOptions, openCa, withCaKeyOptions } from './ca.ts'
import { type ConnectionOptions, openConnecting, withConnectionOptions } from './options/connection.ts'
import { type InventoryOptions, openInventory, rolesSaid, withInventoryOptions } from './options/inventory.ts'
import { type OutputOptions, viewOf, withOutputOptions } from './options/output.ts'
import { settable } from './options/settable.ts'
import { positiveInteger } from './options/whole-number.ts'
import { interruptible } from './running/interrupt.ts'
import { commandId, commandsOf, runCommand } from './running/template-commands.ts'

interface TemplateOptions extends InventoryOptions, ConnectionOptions, CaKeyOptions, OutputOptions {
  ca?: string
  config: string
  limit?: string[]
  dry?: boolean
  shared?: boolean
  check?: boolean
  renew?: boolean
  backups: number
  forks: number
}

/** The command `rekey template`, for `lib/cli/main.ts` to mount. */
export function templateCommand(): Command {
  const command = new Command('template')
    .description("render consul-template's configuration on the hosts of a pattern, once")
    .argument('[pattern]', 'the hosts', 'all')
  const whole = withOutputOptions(
    withCaKeyOptions(withConnectionOptions(withInventoryOptions(command), { kind: '--connection <kind>' })),
  )
    .option('--ca <file>', 'ask the CA in this file, made by `rekey ca`, and no Vault')
    .requiredOption('-c, --config <path>', 'configuration in HCL or JSON: a file, or a folder of files')
    .option('-l, --limit <pattern>', 'only these hosts', (value, before: string[] = []) => [...before, value])
    .option('--dry', 'print what would be rendered, as consul-template -dry does, and place nothing')
    .option('--shared', 'ask once for all hosts: every host gets the same certificates')
    .option('-C, --check', 'say what would be done on each host: nothing is asked of Vault, nothing is changed')
    .option('--renew', 'issue every certificate anew, also those that are as they would be issued now')
    .option('--backups <number>', 'how many backups to keep of files with backup = true', positiveInteger, 1)
    .option('-f, --forks <number>', 'hosts that work at the same time', positiveInteger, 32)
    .action(async (pattern: string, options: TemplateOptions) => {
      process.exitCode = await render(pattern, options)
    })
  return settable(whole, { forks: 'forks' })
}

async function render(pattern: string, options: TemplateOptions): Promise<number> {
  const configuration = readConfiguration(options.config)
  if (configuration.templates.length === 0) {
    throw new RekeyError(`${options.config}: there is no template in it`, { code: 'configuration.template' })
  }
  if (configuration.ignored.length > 0) {
    tell(`Settings without a use here: ${configuration.ignored.join(', ')}`)
  }
  const connecting = await openConnecting(options)
  const inventory = await openInventory(options, { connection: connecting.defaults })
  const hosts = inventory.select(pattern, { limit: options.limit?.join(',') })
  if (hosts.length === 0) throw new RekeyError(`no host matches "${pattern}"`, { code: 'run.no-hosts' })
  await connecting.unlock(hosts)

  const { signal, release } = interruptible()
  // Opened when the first secret is asked for: a configuration may need none.
  let source: Promise<SecretsSource> | undefined
  const connected = () => {
    source ??=
      options.ca === undefined
        ? vaultSource(configuration.vault, signal)
        : openCa(options.ca, options).then(ca => ({ ...ca, close: async () => ca.close() }))
    return source
  }
  const limit = new Set(hosts.map(({ name }) => name))
  try {
    const made = templatePlaybook(configuration, { ...options, pattern, connected })
    return await execute(made, { ...options, inventory, limit, signal })
  } finally {
    release()
    await (await source?.catch(() => undefined))?.close()
  }
}

/** What answers the templates: Vault, or rekey's own CA. */
interface SecretsSource extends Pick<Vault, 'read' | 'write'> {
  /** Where names can be listed. */
  readonly list?: Vault['list']
  close(): Promise<void>
}

async function vaultSource(block: VaultBlock, signal: AbortSignal): Promise<SecretsSource> {
  const { caFolder, kubernetes, ...named } = block
  const authorities = named.authorities ?? (caFolder === undefined ? undefined : authoritiesIn(caFolder))
  const login = kubernetes && { method: 'kubernetes' as const, ...kubernetes }
  const vault = await connectVault(
    vaultSettings({ ...named, authorities, login, signal }, process.env, process.env['HOME'] ?? passwdHome()),
  )
  return {
    read: vault.read,
    write: vault.write,
    list: vault.list,
    close: async () => {
      // A token that a login made for this rendering ends with it.
      if (vault.loggedIn) await vault.revokeSelf().catch(() => undefined)
      vault.close()
    },
  }
}

interface PlaybookOptions {
  readonly config: string
  readonly pattern: string
  readonly dry?: boolean
  readonly shared?: boolean
  readonly renew?: boolean
  readonly backups: number
  /** What answers, opened when it is first needed. */
  connected(): Promise<SecretsSource>
}

/** One play: render everything, check it, put it in place, run the commands of what changed. */
function templatePlaybook(configuration: TemplateConfiguration, options: PlaybookOptions): Playbook {
  const { templates } = configuration
  const rendered = new Map<string, RenderedBlock[]>()
  let shared: Renderer | undefined
  const destinations = templates.map(({ destination }) => destination)
  // A template that is named without a full path stands beside the configuration.
  const readSource = (path: string) =>
    readFile(resolve(baseFolder(options.config), path), 'utf8').catch(unreadable(path))

  const renderStep = step<StepContext>('Render the templates', {
    plan: () => templates.map(block => `render ${block.source ?? block.place} to ${block.destination}`),
    run: async context => {
      const { host } = context
      const sources = await sourcesOf(templates, options.config)
      const paths = [...destinations, ...sources.flatMap(writtenPaths)]
      // Where all hosts share, what any of them has is left alone, and the others get the same.
      const others = options.shared ? context.hosts(options.pattern).filter(({ name }) => name !== host.name) : []
      const reuse = options.renew ? undefined : { context, others, paths, withoutKeys: sources.every(asksForNoKey) }
      if (options.shared) shared ??= newRenderer(options.connected, { reuse })
      const renderer = shared ?? newRenderer(options.connected, { session: context, reuse })
      const blocks = await renderConfiguration({ templates }, renderer, { readSource, data: hostData(host) })
      verifySet(filesOf(blocks, options.backups).map(({ path, content }) => ({ path, text: content.toString('utf8') })))
      rendered.set(host.name, blocks)
      const several = context.hosts(options.pattern).length > 1
      if (options.dry) give(dryText(blocks, several ? host.name : undefined))
      return unchanged({ templates: blocks.length })
    },
  })
  const placeStep = step<StepContext>('Put the files in place', {
    plan: async context => {
      const planned = templates.map(async block => {
        const known = await renderWithoutVault(block, context, readSource)
        return known
          ? plannedWrites(context, filesOf([known], options.backups))
          : [`write ${block.destination} where it differs`]
      })
      return (await Promise.all(planned)).flat()
    },
    check: async context => {
      const blocks = rendered.get(context.host.name)
      // In --check nothing was rendered.
      return (
        blocks !== undefined && (await checkFileSet(context, filesOf(blocks, options.backups))).changed.length === 0
      )
    },
    run: async context => {
      const files = filesOf(rendered.get(context.host.name)!, options.backups)
      const due = dueCommands(context)
      const before = hasCommands ? await due.list() : new Set<string>()
      const added = (paths: readonly string[]) =>
        commandsOf(blocksOf(context.host, paths))
          .map(commandId)
          .filter(id => !before.has(id))
      const place = await placeFileSet(context, context.run, files, {
        about: paths => due.add(added(paths)),
        undone: paths => due.done(added(paths)),
      })
      for (const path of place.changed) context.log(`changed ${path}`)
      for (const path of await openKeys(context, files)) {
        context.log(`${path} holds a private key, and every user of the host may read it: say perms = "0600"`)
      }
      return place
    },
  })
  const commandStep = step<StepContext>('Run the commands of what changed', {
    plan: () => commandsOf(templates).map(({ command }) => `run ${[command].flat().join(' ')}`),
    when: async context => context.check || (await commandsDue(context)).length > 0,
    run: async context => {
      for (const block of await commandsDue(context)) {
        await runCommand(context, block)
        await dueCommands(context).done([commandId(block)])
      }
    },
  })
  const hasCommands = commandsOf(templates).length > 0
  /** The templates whose destinations are among these paths, or which wrote one of them. */
  const blocksOf = ({ name }: Host, paths: readonly string[]) =>
    rendered
      .get(name)!
      .filter(({ block, files }) =>
        [block.destination, ...files.map(({ path }) => path)].some(one => paths.includes(one)),
      )
      .map(({ block }) => block)
  /** Those of files that changed, by this run or by one that did not come to them. */
  const commandsDue = async (context: StepContext) => {
    const due = hasCommands ? await dueCommands(context).list() : new Set<string>()
    return commandsOf(templates).filter(block => due.has(commandId(block)))
  }

  return playbook({
    name: 'template',
    summary: `Render ${options.config}`,
    vars: z.object({}),
    plays: [
      play('Templates', { hosts: options.pattern }, options.dry ? [renderStep] : [renderStep, placeStep, commandStep]),
    ],
  })
}

/** What `.` is: consul-template leaves it empty. */
function hostData({ name, groups, connection }: Host): Record<string, unknown> {
  return { Host: { Name: name, Groups: groups, Address: connection.address } }
}

/** What lies in these files of a host, and of others that share with it, is left alone where it fits. */
interface ReuseOptions {
  readonly context: StepContext
  readonly others: readonly Host[]
  readonly paths: readonly string[]
  readonly withoutKeys: boolean
}

/** `file` reads on the host that is rendered for; a renderer for all hosts has none. */
function newRenderer(
  connected: () => Promise<SecretsSource>,
  options: {
    readonly session?: HostSession
    readonly reuse?: ReuseOptions
  },
): Renderer {
  const { session, reuse } = options
  const issue = async (path: string, data?: Readonly<Record<string, string>>) =>
    vaultSecrets(await connected())(path, data)
  const secrets =
    reuse === undefined
      ? issue
      : reusingIssued(issue, {
          read: async path => (await connected()).read(path),
          texts: () => textsOfAll(reuse),
          withoutKeys: reuse.withoutKeys,
          notice: text => reuse.context.log(text),
        })
  return createRenderer({
    secrets,
    list: async path => {
      const { read, list } = await connected()
      if (list) return vaultLists({ read, list })(path)
      throw new RekeyError("secrets: rekey's own CA keeps nothing that could be listed", { code: 'template.refused' })
    },
    environment: process.env,
    readFile: session && (path => session.files.readText(path)),
    interfaces: session && (() => readInterfaces(session)),
  })
}

/** For a check: a template that asks nothing of Vault; `undefined` for one that does. */
async function renderWithoutVault(
  block: TemplateBlock,
  { host, files }: StepContext,
  readSource: (path: string) => Promise<string>,
): Promise<RenderedBlock | undefined> {
  let asked = false
  const refuse = async () => {
    asked = true
    throw new RekeyError('a check asks nothing of Vault', { code: 'template.check' })
  }
  const readHostFile = (path: string) => files.readText(path)
  const renderer = createRenderer({
    ...{ secrets: refuse, list: refuse, environment: process.env, readFile: readHostFile },
  })
  try {
    const [only] = await renderConfiguration({ templates: [block] }, renderer, { readSource, data: hostData(host) })
    return only
  } catch (error) {
    if (asked) return undefined
    throw error
  }
}

/** What not everybody may read is taken for a secret; what Vault put into it is known to be one. */
async function plannedWrites(session: HostSession, files: readonly WantedFile[]): Promise<PlannedWrite[]> {
  const modes = await modesOf(session, files)
  return files.map(({ path, content }, index) =>
    wouldWrite(path, (modes[index]! & 0o007) === 0 ? secret(content.toString('utf8'), { parts: [] }) : content),
  )
}

/** Paths of files with private keys that everybody may read. consul-template writes them so where no `perms` are said. */
async function openKeys(session: HostSession, files: readonly WantedFile[]): Promise<string[]> {
  const keys = files.filter(({ content }) => content.includes('PRIVATE KEY-----'))
  const modes = await modesOf(session, keys)
  return keys.filter((_, index) => (modes[index]! & 0o004) !== 0).map(({ path }) => path)
}

/** What is there of these files; what isn't is left out. */
async function textsOf({ files }: HostSession, paths: readonly string[]): Promise<string[]> {
  const texts = await Promise.all(paths.map(path => files.readText(path).catch(() => '')))
  return texts.filter(text => text !== '')
}

/** The same of several hosts. One that can't be asked has nothing to share. */
async function textsOfAll({ context, others, paths }: ReuseOptions): Promise<string[]> {
  const ofOthers = others.map(async other => {
    const session = await context.on(other).catch(() => undefined)
    return session ? textsOf(session, paths) : []
  })
  return (await Promise.all([textsOf(context, paths), ...ofOthers])).flat()
}

/** The templates themselves, to see what they name. */
async function sourcesOf(templates: readonly TemplateBlock[], config: string): Promise<string[]> {
  return Promise.all(
    templates.map(
      ({ contents, source }) => contents ?? readFile(resolve(baseFolder(config), source!), 'utf8').catch(() => ''),
    ),
  )
}

/** What of an answer is no secret is all that a template names. One that takes the whole answer may look for the key in it. */
const asksForNoKey = (template: string) =>
  !/\.Key\b|\.Data\b(?!\.(certificate|issuing_ca|ca_chain|serial_number|expiration|private_key_type)\b)/.test(template)

/** The files that a template names to `writeToFile`. One whose name is computed is not seen: it is then written anew. */
const writtenPaths = (template: string) =>
  [...template.matchAll(/\bwriteToFile\s+["`]([^"`]+)["`]/g)].map(([, path]) => path!)

/** Everything that the templates of a host wrote: their destinations, and what they wrote with `writeToFile`. */
function filesOf(blocks: readonly RenderedBlock[], backups: number): WantedFile[] {
  const files = new Map<string, WantedFile>()
  for (const { block, bytes, files: written } of blocks) {
    for (const { path, content, mode, owner, group, append } of written) {
      if (append && !files.has(path)) {
        throw new RekeyError(`${block.place}: writeToFile appends to ${path}, which no template wrote before`, {
          code: 'template.refused',
          hint: 'Appending to a file of the host would add to it at every rendering.',
        })
      }
      const before = append ? files.get(path)!.content : Buffer.alloc(0)
      files.set(path, {
        ...{ path, content: Buffer.concat([before, content]), mode, createFolders: true },
        ...{ backups: block.backup ? backups : 0, component: componentOf(block) },
        ...{ user: owner || undefined, group: group || undefined },
      })
    }
    files.set(block.destination, {
      path: block.destination,
      content: bytes,
      mode: block.permissions,
      user: block.user,
      group: block.group,
      createFolders: block.createDestinationFolders,
      backups: block.backup ? backups : 0,
      component: componentOf(block),
    })
  }
  return [...files.values()]
}

/** Files whose change runs the same command are one component's: their backups belong together. */
const componentOf = ({ command, destination }: TemplateBlock) =>
  command === undefined ? destination : JSON.stringify(command)

const baseFolder = (config: string) => (statSync(config).isDirectory() ? config : dirname(config))

const unreadable = (path: string) => (cause: NodeJS.ErrnoException) => {
  throw new RekeyError(`${path}: the template can't be read (${cause.code})`, { code: 'template.source', cause })
}

interface ExecuteOptions extends OutputOptions {
  readonly inventory: Parameters<typeof runPlaybook>[1]['inventory']
  readonly limit: ReadonlySet<string>
  readonly signal: AbortSignal
  readonly check?: boolean
  readonly forks: number
  readonly dry?: boolean
}

async function execute(made: Playbook, options: ExecuteOptions): Promise<number> {
  const { run, folder } = createRunFolder(made.name, runsDirectory(), false)
  // With --dry the terminal is for what was rendered.
  const view = options.dry
    ? await openView({ ...viewOf(options), output: 'plain' }, process.stderr)
    : await openView(viewOf(options), process.stdout)
  const redact = redactor()
  const journal = openJournal(folder, {
    keepOutput: options.keepOutput,
    notice: text => emit({ kind: 'notice', text }),
  })
  const emit = (body: RunEventBody) => {
    const event = { ...searched(body, redact), at: eventTime() }
    journal.write(event)
    view.event(event)
    if (body.kind === 'run.started') for (const text of rolesSaid(options.inventory)) emit({ kind: 'notice', text })
  }
  let exitCode: number = exitCodes.done
  let reported = true
  try {
    const result = await runPlaybook(made, {
      ...{ run, folder, emit, vars: {}, operator: operatorName(), flush: journal.flush },
      ...{ inventory: options.inventory, limit: options.limit, signal: options.signal },
      ...{
        check: options.check,
        forks: options.forks,
        diff: options.diff ? (await import('../output/diff.ts')).fileDiffer(redact) : undefined,
        selection: {},
        provenance: provenanceOf('', {}, await projectCommit()),
      },
      // Its one play is done anew: there is nothing to go on with.
      registered: registeredInMemory(),
      shorten: (text, of) => journal.shorten(redact.text(text), of),
    })
    exitCode = result.exitCode
  } finally {
    reported = await view.close()
    await journal.close()
  }
  return exitCode || (reported ? exitCodes.done : exitCodes.hostFailed)
}
