// A state store in a folder: a whole file is linked or renamed to its place, so that nobody reads half of one.
import { createHash, randomUUID } from 'node:crypto'
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { HostFailedError } from '../../errors.ts'
import type { StateStore, Stored } from './store.ts'

const tagOf = (text: string) => createHash('sha256').update(text).digest('hex')
const isCode = (error: unknown, code: string) => (error as NodeJS.ErrnoException).code === code

/** Opens one. Between reading and replacing another one may come: where several work in one folder, S3 is what to use. */
export function fileStore(folder: string): StateStore {
  const written = async <T>(
    path: string,
    text: string,
    place: (from: string, to: string) => Promise<T>,
  ): Promise<T> => {
    const to = join(folder, path)
    const from = `${to}.${randomUUID()}`
    try {
      await mkdir(dirname(to), { recursive: true, mode: 0o700 })
      await writeFile(from, text, { mode: 0o600, flush: true })
      return await place(from, to)
    } catch (cause) {
      throw new HostFailedError(`${to} can't be written: ${(cause as Error).message}`, {
        code: 'kops.state-store',
        cause,
      })
    } finally {
      await rm(from, { force: true })
    }
  }
  const get = async (path: string): Promise<Stored | undefined> => {
    try {
      const text = await readFile(join(folder, path), 'utf8')
      return { text, tag: tagOf(text) }
    } catch (cause) {
      if (isCode(cause, 'ENOENT')) return undefined
      throw new HostFailedError(`${join(folder, path)} can't be read: ${(cause as Error).message}`, {
        code: 'kops.state-store',
        cause,
      })
    }
  }
  const list = async (path: string): Promise<string[]> => {
    try {
      const entries = await readdir(join(folder, path), { recursive: true, withFileTypes: true })
      // What is a link leads elsewhere, and is no object of the store.
      const files = entries.filter(entry => entry.isFile())
      return files.map(entry => relative(folder, join(entry.parentPath, entry.name))).sort()
    } catch (cause) {
      if (isCode(cause, 'ENOENT')) return []
      throw new HostFailedError(`${join(folder, path)} can't be listed: ${(cause as Error).message}`, {
        code: 'kops.state-store',
        cause,
      })
    }
  }
  return {
    ...{ get, list },
    create: (path, text) =>
      written(path, text, async (from, to) => {
        try {
          await link(from, to)
          return tagOf(text)
        } catch (error) {
          if (isCode(error, 'EEXIST')) return undefined
          throw error
        }
      }),
    replace: async (path, text, tag) => {
      if ((await get(path))?.tag !== tag) return undefined
      await written(path, text, rename)
      return tagOf(text)
    },
    remove: async (path, tag) => {
      if ((await get(path))?.tag !== tag) return false
      await rm(join(folder, path), { force: true })
      return true
    },
  }
}
