// The template cases: data files, each with the bytes that consul-template wrote for it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

/** One template, and what consul-template made of it. */
export interface TemplateCase {
  title: string
  template: string
  env?: Record<string, string>
  delimiters?: [string, string]
  strictKeys?: boolean
  /** Files to be there before, by name, in the folder that the variable FOLDER names. */
  inputs?: Record<string, string>
  /** Both fail. */
  failure?: true
  /** rekey is stricter: what its message holds. */
  refused?: string
  /** consul-template would wait for a Consul server. */
  consul?: true
  /** What consul-template wrote, as text, or in base64 where it is none. */
  expected?: string
  expectedBase64?: string
  /** The files that the template itself wrote in FOLDER. */
  files?: Record<string, { content: string; mode: string }>
}

const folder = new URL('cases/', import.meta.url)

/** Every file of cases, by topic. */
export function readCases(): Map<string, TemplateCase[]> {
  const names = readdirSync(folder).filter(name => name.endsWith('.json'))
  return new Map(
    names.sort().map(name => [name.replace('.json', ''), JSON.parse(readFileSync(new URL(name, folder), 'utf8'))]),
  )
}

export function writeCases(topic: string, cases: readonly TemplateCase[]): void {
  writeFileSync(new URL(`${topic}.json`, folder), `${JSON.stringify(cases, undefined, 2)}\n`)
}

/** One configuration file, and the files that consul-template made from it. */
export interface ConfigurationCase {
  title: string
  text: string
  inputs?: Record<string, string>
  /** Rendering fails for both. */
  failure?: true
  /** Reading it fails for both; rekey's message begins with this. */
  error?: string
  ignored?: string[]
  command?: string | string[]
  expected?: Record<string, { content: string; mode: string }>
}

const configurations = new URL('fixtures/configurations.json', import.meta.url)

export function readConfigurationCases(): ConfigurationCase[] {
  return JSON.parse(readFileSync(configurations, 'utf8'))
}

export function writeConfigurationCases(cases: readonly ConfigurationCase[]): void {
  writeFileSync(configurations, `${JSON.stringify(cases, undefined, 2)}\n`)
}
