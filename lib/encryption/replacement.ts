// One EncryptionConfiguration after another, where API servers are replaced one by one: what one that has it writes, one that has the other must read.
import { createHash } from 'node:crypto'
import { type EncryptionConfiguration, type Provider, providersOf, readConfiguration } from './configuration.ts'

/** What speaks against a configuration in the place of another. */
export interface Misfit {
  /** What is written with it can't be read with the other, or the other way round: while both are in use, values are unreadable. */
  readonly unreadable: readonly string[]
  /** What it does not read any more: values that lie under it still would be lost to API servers. */
  readonly dropped: readonly string[]
}

interface Writer {
  readonly name: string
  readonly id: string
}

/**
 * Holds one against another, resource by resource.
 * @param before the text of the one that is in use
 * @param next the text of the one that is to be
 * @throws RekeyError where one of them is none that an API server would start with
 */
export function misfitOf(before: string, next: string): Misfit {
  const one = readConfiguration(before, 'the encryptionconfig of before')
  const other = readConfiguration(next, 'the new encryptionconfig')
  const named = [one, other].flatMap(({ rules }) => rules.flatMap(({ resources }) => resources))
  const [unreadable, dropped]: [string[], string[]] = [[], []]
  for (const resource of new Set(named)) {
    const [there, coming] = [writersOf(one, resource), writersOf(other, resource)]
    const isIn = (all: readonly Writer[], { id }: Writer) => all.some(each => each.id === id)
    const [was, is] = [there[0] as Writer, coming[0] as Writer]
    if (!isIn(coming, was))
      unreadable.push(`${resource}: ${was.name}, under which it was written until now, is not read by the other`)
    if (!isIn(there, is))
      unreadable.push(`${resource}: ${is.name}, under which it would be written, is not read by the one of before`)
    for (const each of there.slice(1))
      if (!isIn(coming, each)) dropped.push(`${resource}: ${each.name} is not read any more`)
  }
  return { unreadable, dropped }
}

/** Under what a resource is written, and what else is read. A key is another one where its bytes are. */
function writersOf(configuration: EncryptionConfiguration, resource: string): Writer[] {
  const all = providersOf(configuration, resource).flatMap(each)
  return all.length > 0 ? all : [{ name: 'no encryption', id: 'identity' }]
}

function each(provider: Provider): Writer[] {
  if (provider.kind === 'identity') return [{ name: 'no encryption', id: 'identity' }]
  if (provider.kind === 'kms') {
    const { version, name, endpoint } = provider
    return [{ name: `kms ${version} ${name}`, id: `kms ${version} ${name} ${endpoint}` }]
  }
  return provider.keys.map(({ name, secret }) => ({
    name: `${provider.kind} ${name}`,
    id: `${provider.kind} ${name} ${createHash('sha256').update(secret.reveal()).digest('hex')}`,
  }))
}
