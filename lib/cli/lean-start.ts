// Loaded before everything else: leaves out what the libraries load that rekey has no use for, a fifth of what a start would take.
import { registerHooks } from 'node:module'
import { pathToFileURL } from 'node:url'
import { ownModule } from '../package.ts'

/** What is asked for, by whom, and what takes its place. */
const instead = [
  // zod's messages in fifty languages, a file each.
  [/^\.\.\/locales\/index\.c?js$/, '/zod/', pathToFileURL(ownModule('lib/playbook/zod/locales.ts')).href],
  // HTTP through SSH: nobody asks for it, and it brings Node's HTTP and TLS with it.
  [/^\.\/http-agents\.js$/, '/ssh2/', 'node:path'],
  // Where node-ssh makes folders here for what it fetches in whole trees: nobody has it do that.
  [/^make-dir$/, '/node-ssh/', 'node:path'],
] as const

registerHooks({
  resolve: (specifier, context, next) => {
    const found = instead.find(([what, by]) => what.test(specifier) && context.parentURL?.includes(by))
    return next(found ? found[2] : specifier, context)
  },
})
