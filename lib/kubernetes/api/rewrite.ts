// Fields of an object that others write, too, written by the API's own comparison: only where they hold what was read.
import { ApiError, foundAt, type KubernetesApi, type KubernetesObject } from './api.ts'

/** A field, by a JSON pointer: what it holds, and what it is to hold. */
export interface FieldChange {
  readonly pointer: string
  readonly value: string
  readonly next: string
}

/** Writes all of some fields, or none. Throws `ApiError` with the status 422 where one of them holds something else. */
export async function replaceFields(
  api: Pick<KubernetesApi, 'patch'>,
  path: string,
  changes: readonly FieldChange[],
): Promise<void> {
  const test = changes.map(({ pointer, value }) => ({ op: 'test', path: pointer, value }))
  const replace = changes.map(({ pointer, next }) => ({ op: 'replace', path: pointer, value: next }))
  await api.patch(path, [...test, ...replace], 'json')
}

const mostTries = 5

/**
 * Writes fields of an object that nobody else writes at the same moment; reads it again where somebody does.
 * @param changesOf which fields are to be others, by what was read; it is asked again with what is read again
 */
export async function rewriteFields(
  api: Pick<KubernetesApi, 'get' | 'patch'>,
  path: string,
  changesOf: (object: KubernetesObject) => readonly FieldChange[],
): Promise<'changed' | 'as it is' | 'gone'> {
  for (let tries = 1; ; tries++) {
    const object = await foundAt(api, path)
    if (!object) return 'gone'
    const changes = changesOf(object)
    if (changes.length === 0) return 'as it is'
    try {
      await replaceFields(api, path, changes)
      return 'changed'
    } catch (error) {
      const meanwhile = error instanceof ApiError && [404, 409, 422].includes(error.status)
      if (!meanwhile || tries >= mostTries) throw error
    }
  }
}
