// What rekey.yml, the environment and ansible.cfg say of a command's options, where the command line says nothing.
import { resolve } from 'node:path'
import { type Command, InvalidArgumentError, type Option } from 'commander'
import {
  badSetting,
  type Configuration,
  readConfiguration,
  type Setting,
  settingKind,
  yesOf,
} from '../../inventory/index.ts'
import { expandHome } from '../../operator.ts'
import { settingNameOf } from './settable.ts'

/** What holds here, by the environment and by files. Throws `RekeyError` with file and line for what is no setting. */
export const configurationHere = (): Configuration =>
  readConfiguration({ cwd: process.cwd(), environment: process.env })

/**
 * Fills in the options of a command that were not given. Throws `RekeyError` where a setting can't be one of them.
 */
export function fillOptions(command: Command): void {
  const isGiven = (attribute: string) => !['default', undefined].includes(command.getOptionValueSource(attribute))
  const given = command.options.filter(one => isGiven(one.attributeName()))
  const excluded = new Set(given.flatMap(option => conflictsOf(option)))
  const open = command.options.filter(
    one =>
      settingNameOf(one) &&
      !given.includes(one) &&
      !excluded.has(one.attributeName()) &&
      !conflictsOf(one).some(isGiven),
  )
  if (open.length === 0) return
  const configuration = configurationHere()
  const configured: string[] = []
  for (const option of open) {
    const setting = configuration.find(settingNameOf(option)!)
    if (!setting) continue
    command.setOptionValueWithSource(option.attributeName(), optionValue(option, setting), 'config')
    configured.push(option.attributeName() === 'remoteUser' ? 'user' : option.attributeName())
  }
  command.setOptionValueWithSource('configured', configured, 'config')
}

/** What an option is by a setting. Throws `RekeyError` for what the option would refuse. */
export function optionValue(option: Option, setting: Setting): unknown {
  const { shape, path } = settingKind(settingNameOf(option)!)
  if (shape === 'yes') return yesOf(setting)
  if (path) return resolve(setting.folder, expandHome(setting.own ? setting.value : expanded(setting.value)))
  if (!option.parseArg) return setting.value
  // As the inventory may have it, too.
  const value = setting.own ? setting.value : setting.value.replace(/^ansible\.(builtin|legacy)\./, '')
  try {
    return option.parseArg(value, undefined)
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error
    // What rekey has not may be right for Ansible: it is an error for a host that says nothing of its own.
    if (option.argChoices && !setting.own) return value
    throw badSetting(setting, error.message)
  }
}

/** A path as Ansible takes it from the environment and from ansible.cfg. */
function expanded(path: string): string {
  const whole = path.replaceAll('{{CWD}}', process.cwd())
  return whole.replace(/\$(?:(\w+)|\{(\w+)\})/g, (word, bare, braced) => process.env[bare ?? braced] ?? word)
}

/** The folders with playbooks of one's own, which are run by their names. */
export function playbookFolders(): string[] {
  const setting = configurationHere().find('playbooks')
  return (setting?.values ?? []).map(folder => resolve(setting!.folder, expandHome(folder)))
}

/** Names of options that one excludes. */
function conflictsOf(option: Option): string[] {
  return (option as Option & { readonly conflictsWith: string[] }).conflictsWith
}
