// Which options may also stand in rekey.yml.
import type { Command, Option } from 'commander'
import type { SettingName } from '../../inventory/index.ts'

const names = new WeakMap<Option, SettingName>()

/** Says which settings the options of a command are, by the names that they have in it; those that it lacks are passed over. */
export function settable(command: Command, settings: Readonly<Record<string, SettingName>>): Command {
  for (const option of command.options) {
    const name = settings[option.attributeName()]
    if (name !== undefined && !option.hidden) names.set(option, name)
  }
  return command
}

/** The setting that an option is; undefined where it is none. */
export const settingNameOf = (option: Option): SettingName | undefined => names.get(option)

/** Leaves how hosts are reached to the run that a command goes on with; but which programs know passwords is kept in no run's folder. */
export function leftToRun(command: Command): Command {
  for (const option of command.options)
    if (!/^view\.|^connection\..*password_file$/.test(names.get(option) ?? '')) names.delete(option)
  return command
}
