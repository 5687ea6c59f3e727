// Executable inventories: a program that prints groups and hosts as JSON for `--list`, or a host's for `--host NAME`.
import { execFile } from 'node:child_process'
import { RekeyError } from '../../errors.ts'
import { addChild, addHost, assignToGroup, assignToHost, type Collector, ensureGroup, type Group } from '../groups.ts'
import { Dict, isMapping, keyText, type Mapping, typeName, type Value } from '../values.ts'
import type { Vault } from '../vault/vault.ts'
import { parseJson } from '../yaml/json.ts'

export interface ExecutableOptions {
  readonly cwd: string
  readonly environment: NodeJS.ProcessEnv
  readonly vault: Vault
  readonly notice: (line: string) => void
  /** How long the program may take, in milliseconds. */
  readonly timeout?: number
}

const outputLimit = 64 * 1024 * 1024
/** How much of what a program said last may stand in an error, in characters. */
const longestWord = 4096
/** Programs without `_meta` are asked host by host; this many at a time. */
const parallelHosts = 8

/** Adds what an inventory program prints. Throws `RekeyError` when it fails, takes too long or prints no inventory. */
export async function addExecutableInventory(
  collector: Collector,
  file: string,
  options: ExecutableOptions,
): Promise<void> {
  const printed = parse(file, '--list', await run(file, ['--list'], options), options.vault)
  const hosts = new Set<string>()
  let variables: Mapping | undefined
  for (const [key, content] of printed.entries()) {
    const name = keyText(key)
    if (name !== '_meta') addGroup(collector, file, name, content, hosts)
    else {
      const hostvars = isMapping(content) ? content.get('hostvars') : undefined
      if (isMapping(hostvars)) variables = hostvars
      else
        throw bad(file, '"_meta" has no map "hostvars"', 'Print {"_meta": {"hostvars": {…}}, …}, or leave "_meta" out.')
    }
  }
  const names = [...hosts]
  if (variables === undefined) {
    options.notice(`${file} prints no "_meta": it is run once more for each of ${names.length} hosts`)
    variables = new Dict()
    for (let index = 0; index < names.length; index += parallelHosts) {
      const batch = names.slice(index, index + parallelHosts)
      const answers = await Promise.all(batch.map(name => run(file, ['--host', name], options)))
      for (const [offset, name] of batch.entries()) {
        const answer = answers[offset]!
        if (answer.trim() !== '') variables.set(name, parse(file, `--host ${name}`, answer, options.vault))
      }
    }
  }
  for (const name of names) {
    const own = variables.get(name) ?? new Dict<Value>()
    if (!isMapping(own))
      throw bad(
        file,
        `the variables of the host "${name}" are ${typeName(own)}, not a map`,
        'Print a map for each host.',
      )
    const host = collector.data.hosts.get(name)!
    for (const [variable, value] of own.entries())
      assignToHost(collector.data, host, keyText(variable), value, { file })
  }
}

function addGroup(collector: Collector, file: string, name: string, content: Value, hosts: Set<string>): void {
  const { data } = collector
  const origin = { file }
  if (name === '') throw bad(file, 'a group has an empty name', 'Give every group a name.')
  const group = ensureGroup(data, name, origin)
  if (!isMapping(content)) {
    addHosts(collector, file, group, content, hosts)
    return
  }
  const [own, vars, children] = ['hosts', 'vars', 'children'].map(key => content.get(key))
  if (own === undefined && vars === undefined && children === undefined) {
    throw bad(
      file,
      `the group "${name}" has neither hosts, vars nor children`,
      'Ansible takes such a group for a host of the same name; print {"hosts": […]} instead.',
    )
  }
  if (own !== undefined) addHosts(collector, file, group, own, hosts)
  if (vars !== undefined) {
    if (!isMapping(vars))
      throw bad(file, `"vars" of the group "${name}" is ${typeName(vars)}, not a map`, 'Print a map of variables.')
    for (const [variable, value] of vars.entries()) assignToGroup(group, keyText(variable), value, origin)
  }
  if (children === undefined) return
  const members = isMapping(children) ? children.keys() : children
  if (!Array.isArray(members))
    throw bad(
      file,
      `"children" of the group "${name}" is ${typeName(children)}, not a list`,
      'Print a list of group names.',
    )
  for (const child of members) {
    if (typeof child !== 'string' || child === '')
      throw bad(file, `"children" of the group "${name}" names no group`, 'Print a list of group names.')
    addChild(group, ensureGroup(data, child, origin), origin)
  }
}

function addHosts(collector: Collector, file: string, group: Group, names: Value, hosts: Set<string>): void {
  if (!Array.isArray(names))
    throw bad(
      file,
      `"hosts" of the group "${group.name}" is ${typeName(names)}, not a list`,
      'Print a list of host names.',
    )
  for (const name of names) {
    if (typeof name !== 'string' || name === '') {
      throw bad(file, `"hosts" of the group "${group.name}" contains ${typeName(name)}`, 'Print a list of host names.')
    }
    addHost(collector, name, group, undefined, { file })
    hosts.add(name)
  }
}

function parse(file: string, args: string, output: string, vault: Vault): Mapping {
  let value: Value
  try {
    value = parseJson(output, `${file} ${args}`, vault)
  } catch (error) {
    throw new RekeyError(`${file} ${args} printed no JSON: ${(error as Error).message.split('\n')[0]}`, {
      code: 'inventory.executable-json',
      hint: 'Run it by hand: it must print one JSON object and nothing else on its standard output.',
      cause: error,
    })
  }
  if (isMapping(value)) return value
  throw bad(file, `${args} printed ${typeName(value)}, not a map`, 'It must print one JSON object.')
}

/** Runs the program without a shell, and hands over its standard output. */
function run(
  file: string,
  args: readonly string[],
  { cwd, environment, timeout = 30_000 }: ExecutableOptions,
): Promise<string> {
  const command = `${file} ${args.join(' ')}`
  return new Promise((resolve, reject) => {
    const settings = {
      cwd,
      env: environment,
      timeout,
      killSignal: 'SIGKILL',
      maxBuffer: outputLimit,
      encoding: 'utf8',
    } as const
    const child = execFile(file, args, settings, (error, stdout, stderr) => {
      if (!error) return resolve(stdout)
      // Its end alone: split into lines, what an endless program said takes ten times its size.
      const last = stderr.slice(-longestWord).trim().split('\n').at(-1)
      let what = `${command} ended with exit code ${error.code}${last ? `: ${last}` : ''}`
      let hint = 'Run it by hand to see what it says.'
      if (error.killed && typeof error.code !== 'string') {
        what = `${command} took more than ${timeout / 1000} s and was ended`
      } else if (error.code === ('ERR_CHILD_PROCESS_STDIO_MAXBUFFER' as unknown)) {
        what = `${command} printed more than ${outputLimit / 1024 / 1024} MiB and was ended`
      } else if (typeof error.code === 'string') {
        what = `${command} could not be run: ${error.code}`
        hint = 'Check its first line (#!) and that the interpreter named there exists; or take its executable bit away.'
      } else if (error.signal) what = `${command} was ended by ${error.signal}`
      reject(new RekeyError(what, { code: 'inventory.executable', hint, cause: error }))
    })
    child.stdin?.end()
  })
}

function bad(file: string, what: string, hint: string): RekeyError {
  return new RekeyError(`${file}: ${what}`, { code: 'inventory.executable-shape', hint })
}
