// The template cases: data files, each with the bytes that consul-template wrote for it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { MachineInterfaces } from '../../lib/template/sockaddr.ts'

/** One template, and what consul-template made of it. */
export interface TemplateCase {
  title: string
  template: string
  env?: Record<string, string>
  delimiters?: [string, string]
  strictKeys?: boolean
  /** On the made-up machine of `fixtures/interfaces.json`. */
  interfaces?: true
  /** Files to be there before, by name, in the folder that the variable FOLDER names. */
  inputs?: Record<string, string>
  /** Both fail. */
  failure?: true
  /** rekey is stricter: what its message holds. */
  refused?: string
  /** What consul-template renders instead: with the pairs of a Consul server, which rekey does not ask. */
  consulTemplate?: string
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

/** The made-up machine on which `sockaddr` is tried. */
export function readMachine(): MachineInterfaces {
  return JSON.parse(readFileSync(new URL('fixtures/interfaces.json', import.meta.url), 'utf8'))
}

const functionNames = new URL('fixtures/function-names.json', import.meta.url)

/** The names of all functions that consul-template offers. */
export function readFunctionNames(): string[] {
  return JSON.parse(readFileSync(functionNames, 'utf8'))
}

export function writeFunctionNames(names: readonly string[]): void {
  writeFileSync(functionNames, `${JSON.stringify(names, undefined, 2)}\n`)
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
