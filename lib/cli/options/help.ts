// What help says beside the list of options: examples, and options by what they are about.
import type { Command } from 'commander'

/** An example, to stand behind a command's help: what it does, and the line. */
export const example = (what: string, line: string): string => `\nExample, ${what}:\n  ${line}`

/** Headings of options that several commands share; a command's own stand before them. */
export const headings = {
  inventory: 'Options for the inventory:',
  connection: 'Options for reaching hosts:',
  view: 'Options for what is shown:',
  listing: 'Options that only look:',
} as const

/** Puts the options that `add` adds to a command under a heading. */
export function under(heading: string, command: Command, add: (command: Command) => void): Command {
  const before = command.options.length
  add(command)
  for (const option of command.options.slice(before)) option.helpGroup(heading)
  return command
}

const standard = 'Options:'

/** Has a command's own options stand first in its help, whichever were added first. */
export function ownOptionsFirst(command: Command): void {
  command.configureHelp({
    groupItems(all, visible, groupOf) {
      const groups = new Map<string, typeof visible>()
      const names = [...all, ...visible].map(item => groupOf(item))
      for (const name of names.includes(standard) ? [standard, ...names] : names) groups.set(name, [])
      for (const item of visible) groups.get(groupOf(item))!.push(item)
      return groups
    },
  })
}
