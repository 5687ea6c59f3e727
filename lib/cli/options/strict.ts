// What all commands have in common: how a mistake on the command line is told, and that a word which is empty is one.
import { type Command, InvalidArgumentError } from 'commander'
import { tell } from '../../output/print.ts'
import { ownOptionsFirst } from './help.ts'

/** Options that say themselves what an empty word is to them. */
const theirOwn = ['extraVars', 'limit']

/**
 * Has a command tell mistakes after a short usage, so that they stand last, its own options before shared ones, and refuse words that are empty: mostly variables of the
 * shell that nobody set, where nothing at all may stand for everything.
 */
export function strictly(command: Command): void {
  ownOptionsFirst(command)
  command.exitOverride().configureOutput({ outputError: text => tellMistake(command, text) })
  const filled =
    <T>(parse: ((value: string, previous: T) => T) | undefined) =>
    (value: string, previous: T): T | string => {
      if (value === '') throw new InvalidArgumentError('It is empty.')
      return parse ? parse(value, previous) : value
    }
  for (const option of command.options) {
    if (option.required && !theirOwn.includes(option.attributeName())) option.argParser(filled(option.parseArg))
  }
  for (const argument of command.registeredArguments) {
    if (!argument.variadic) argument.argParser(filled(argument.parseArg))
  }
}

function tellMistake(command: Command, text: string): void {
  const names: string[] = []
  for (let one: Command | null = command; one; one = one.parent) names.unshift(one.name())
  const path = names.join(' ')
  const mistake = text
    .trim()
    .replace(/^error: /, '')
    .replace(/\n\(Did you mean (.*)\?\)$/, (_, near: string) => `; did you mean ${near}?`)
  tell(`Usage: ${path} ${command.usage()}\n'${path} --help' lists what there is.\nError: ${mistake}`)
}
