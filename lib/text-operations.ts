// Operations on texts in files, with what the inventory's room has for them: Python's regular expressions. Only a door joins the two
// (docs/architecture.md), and loads the second when a step needs it.
import { RekeyError } from './errors.ts'
import { blockInFileWith } from './operations/edits/block-in-file.ts'
import { lineInFileWith } from './operations/edits/line-in-file.ts'
import type { PythonPatterns } from './operations/edits/patterns.ts'
import { replaceInFileWith } from './operations/edits/replace-in-file.ts'
import { templateWith } from './operations/files/template.ts'

const python = async (): Promise<PythonPatterns> => {
  const { expandReplacement, pythonRegex } = await import('./inventory/python/python-regex.ts')
  return { pattern: pythonRegex, expand: expandReplacement }
}

/** A line that shall be in a file, or not: Ansible's `lineinfile`. */
export const lineInFile = lineInFileWith(python)

/** Lines between two marks that shall be in a file, or not: Ansible's `blockinfile`. */
export const blockInFile = blockInFileWith(python)

/** All places of a file that an expression is found in, replaced: Ansible's `replace`. */
export const replaceInFile = replaceInFileWith(python)

/** A file that a template makes: Ansible's `template`, in Jinja's language or in consul-template's. */
export const template = templateWith(async () => {
  const { createRenderer } = await import('./template/render.ts')
  return createRenderer({
    secrets: async path => {
      throw new RekeyError(`secret ${path}: no Vault is known to this template`, {
        code: 'template.no-secrets',
        hint: 'Give it a renderer: createRenderer({ secrets }).',
      })
    },
  })
})
