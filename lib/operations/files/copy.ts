// `copy` as a step does it: what there was is kept in the run's folder, and comes back.
import { Secret } from '../../connection/shell.ts'
import type { StepContext } from '../../playbook/model.ts'
import { type Compared, type Copied, type CopiedFile, checkCopied, compareFiles } from '../copy.ts'
import { operation } from '../operation.ts'
import { absolutePath, checkedOptions, type Kinds, required, text, truth } from '../options.ts'
import { attributesOf, type Kept, keepRemoved, keptShape, undoKept } from './kept.ts'
import { modeKind } from './mode.ts'
import { type AtPath, lookAt } from './paths.ts'

/** A file, as it shall be on a host. */
export interface CopyOptions extends CopiedFile {
  /** Whether what is replaced is kept in the run's folder, to come back: up to 20 MiB each. Default: true. */
  readonly keep?: boolean
}

const kinds: Kinds<CopyOptions> = {
  path: required(absolutePath),
  content: {
    words: 'a text, bytes or a secret()',
    fits: value => typeof value === 'string' || value instanceof Uint8Array || value instanceof Secret,
    secret: true,
  },
  source: text,
  mode: modeKind,
  owner: text,
  keep: truth,
}

/**
 * Makes files of a host be as they shall be: one look tells which of them differ, and those go there in one stream. All of them are written
 * beside their places, synced and compared with what was sent before the first takes its own: what failed until then leaves every file as it was.
 * @throws HostFailedError when one can't be written, or did not arrive whole
 * @throws RekeyError when a source can't be read
 */
export const copy = operation<CopyOptions, Copied>({
  name: 'copy',
  check: given => {
    const options = checkedOptions('copy', given, kinds)
    checkCopied(options)
    return options
  },
  look: async (context, wanted) => {
    const compared = await compareFiles(context, wanted)
    return {
      would: compared.changed.map(path => `write ${path}`),
      result: { changed: [], bytes: 0 },
      announce: compared.announce,
      keep: () => keep(context, compared, wanted),
      apply: compared.send,
    }
  },
  undo: undoKept,
  kept: keptShape,
})

/** Bytes of a file that are kept as they are; more of them go into an archive. */
const mostAsIs = 1024 ** 2

async function keep(context: StepContext, compared: Compared, wanted: readonly CopyOptions[]): Promise<Kept[]> {
  const { at } = await lookAt(
    context,
    compared.changed.map(path => ({ path, content: mostAsIs })),
  )
  const kept: Kept[] = compared.missingFolders.map(path => ({ kind: 'folder', path }))
  for (const one of at) {
    const isKept = wanted.find(({ path }) => path === one.path)!.keep !== false
    kept.push(...(await keptOf(context, one, compared, isKept)))
  }
  return kept
}

async function keptOf(context: StepContext, at: AtPath, compared: Compared, isKept: boolean): Promise<Kept[]> {
  const { path, own, target, content } = at
  const sha256 = await compared.sha256(path)
  if (!own) return [{ kind: 'file', path, sha256 }]
  if (own.kind === 'link') return [{ kind: 'unlinked', path, target: target!, sha256 }]
  if (!isKept) return [{ kind: 'lost', path }]
  if (!content) return [await keepRemoved(context, path), { kind: 'file', path, sha256, before: at.sha256 }]
  const [secret, before] = [compared.isSecret(path), content.toString('base64')]
  return [{ kind: 'content', path, sha256, content: before, secret, ...attributesOf(own) }]
}
