// `rekey config`: what holds where the command line says nothing, and which line of which file says so.
import { relative } from 'node:path'
import { Command } from 'commander'
import { areCiphersCompiled } from '../../connection/ssh/ciphers.ts'
import {
  type Configuration,
  furtherSettings,
  type Setting,
  type SettingName,
  settingKind,
  settings,
} from '../../inventory/index.ts'
import { say, tell } from '../../output/print.ts'
import { table } from '../../output/words.ts'
import { isClone } from '../../package.ts'
import { settingNameOf } from '../options/settable.ts'
import { configurationHere, optionValue } from '../options/settings.ts'
import { runCommand } from '../run.ts'

/** What holds where nothing says otherwise, as far as the options of `rekey run` don't tell. */
const otherwise: Partial<Record<SettingName, string>> = {
  'connection.kind': 'ssh',
  'connection.timeout': '10s',
  'connection.ask_pass': 'false',
  'connection.become': 'false',
  'connection.become_user': 'root',
  'connection.become_method': 'sudo',
  'connection.ask_become_pass': 'false',
  'view.verbose': 'false',
  'view.diff': 'false',
}

// What is missing where npm was told to run no install scripts, and how to allow them.
const slower = 'Transfers of much data are slower so: npm ran no install scripts, or there was no C++ compiler and make'
const scripts = ['rekey', 'ssh2', 'cpu-features']
const inClone = 'npm rebuild compiles them.'
const inPackage = `npm approve-scripts ${scripts.join(' ')} && npm rebuild compiles them; where rekey is installed with -g, npm install -g --allow-scripts=${scripts.join(',')} with its tarball.`

/** A setting, as it is told. */
interface Told {
  readonly name: string
  readonly value?: string | readonly string[]
  readonly source: 'environment' | 'file' | 'default'
  readonly variable?: string
  readonly file?: string
  readonly line?: number
}

export function configCommand(): Command {
  return new Command('config')
    .description('show what holds where the command line says nothing, and where each of it comes from')
    .option('--json', 'as JSON')
    .action(({ json }: { json?: true }) => {
      const configuration = configurationHere()
      if (configuration.ignored) tell(configuration.ignored)
      const told = holding(configuration)
      const ciphers = areCiphersCompiled() ? 'compiled' : 'in JavaScript'
      if (json) {
        const { version, execPath } = process
        say(
          JSON.stringify(
            { files: configuration.files, node: { version, execPath }, ciphers, settings: told },
            undefined,
            2,
          ),
        )
      } else {
        for (const line of lines(configuration, told)) say(line)
        say(`runs on Node ${process.version}, ciphers ${ciphers}`)
        if (ciphers !== 'compiled') say(`${slower}: ${isClone ? inClone : inPackage}`)
      }
    })
}

function holding(configuration: Configuration): Told[] {
  const options = runCommand().options
  const own = (Object.keys(settings) as SettingName[]).map((name): Told => {
    const setting = configuration.find(name)
    const option = options.find(one => settingNameOf(one) === name)
    if (!setting) {
      const standard = option?.defaultValueDescription ?? option?.defaultValue
      return {
        name,
        value: otherwise[name] ?? (standard === undefined ? undefined : String(standard)),
        source: 'default',
      }
    }
    // What the option would refuse is told here, too.
    if (option) optionValue(option, setting)
    return told(
      name,
      setting,
      settingKind(name).shape === 'texts' ? (setting.values ?? [setting.value]) : setting.value,
    )
  })
  const ansibles = furtherSettings.flatMap(([variable, section, key]) => {
    const setting = configuration.get(variable, section, key)
    return setting ? [told(key, setting, setting.value)] : []
  })
  return [...own, ...ansibles]
}

function told(name: string, { file, line, from }: Setting, value: string | readonly string[]): Told {
  return file === undefined
    ? { name, value, source: 'environment', variable: from }
    : { name, value, source: 'file', file, line }
}

function lines({ files }: Configuration, told: readonly Told[]): string[] {
  const here = (file: string) => {
    const path = relative(process.cwd(), file)
    return path.startsWith('../') ? file : path
  }
  const rows = told.map(({ name, value, source, variable, file, line }) => {
    const text = value === undefined ? '–' : [value].flat().join(', ')
    return [name, text, source === 'file' ? `${here(file!)}:${line}` : (variable ?? 'default')] as const
  })
  return [
    `rekey.yml: ${files.rekey === undefined ? 'none' : here(files.rekey)}; ansible.cfg: ${files.ansible === undefined ? 'none' : here(files.ansible)}`,
    ...table(rows),
  ]
}
