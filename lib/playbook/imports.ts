// What a playbook may import by name wherever it lies: rekey itself, and the two libraries that its pages use.
import { registerHooks } from 'node:module'

const root = new URL('../../', import.meta.url).href
let shared = false

/**
 * From now on `rekey` is this one for every file: two of them would not know each other's errors and secrets. `zod` and `zx` are those of
 * rekey for files that have none of their own.
 */
export function shareImports(): void {
  if (shared) return
  shared = true
  registerHooks({
    resolve: (specifier, context, next) => {
      const [, name] = /^(rekey|zod|zx)(?:\/|$)/.exec(specifier) ?? []
      if (name === undefined || context.parentURL?.startsWith(root)) return next(specifier, context)
      const ours = () => next(specifier, { ...context, parentURL: import.meta.url })
      if (name === 'rekey') return ours()
      try {
        return next(specifier, context)
      } catch (error) {
        const { code = '' } = error as NodeJS.ErrnoException
        if (!['ERR_MODULE_NOT_FOUND', 'MODULE_NOT_FOUND'].includes(code)) throw error
        return ours()
      }
    },
  })
}
