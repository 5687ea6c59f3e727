// What steps returned, kept in the run's folder for a resumed run: a line of JSON each, and every secret in it as a reference
// to a file of its own.
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ProcessOutput } from 'zx/core'
import { Secret } from '../connection/shell.ts'
import { RekeyError, UnknownOutcomeError } from '../errors.ts'
import { cannotKeep, linesOf, openLineFile } from './line-file.ts'

/** What steps returned, by step id and host. */
export type Registered = Map<string, Map<string, unknown>>

const fileName = 'registered.jsonl'
const secretsFolder = 'secrets'

/** Keeps what steps return. */
export interface RegisteredStore {
  /**
   * Resolves once it is on the disk. What is neither plain data nor a `Secret`, a `Map` or a `Date` comes back as plain data.
   * Rejects with `RekeyError` where it can't be kept.
   */
  save(step: string, host: string, value: unknown): Promise<void>
  close(): void
}

/**
 * Opens `registered.jsonl` in a run's folder.
 * @param isSecret tells texts that must not stand in it; they go to the files of the secrets
 */
export function openRegistered(folder: string, isSecret: (text: string) => boolean): RegisteredStore {
  const file = openLineFile(join(folder, fileName))
  const keep = (step: string, host: string, text: string): string => {
    mkdirSync(join(folder, secretsFolder), { recursive: true, mode: 0o700 })
    const name = `${step}.${host.replaceAll('/', '_')}.${randomBytes(4).toString('hex')}`
    try {
      writeFileSync(join(folder, secretsFolder, name), text, { mode: 0o600, flush: true })
    } catch (error) {
      throw cannotKeep(join(folder, secretsFolder, name), error as Error)
    }
    return name
  }
  return {
    save: async (step, host, value) => {
      // Most steps return nothing.
      if (value === undefined) return
      const encode = (one: unknown): unknown => {
        if (one instanceof Secret) return { $secret: keep(step, host, one.reveal()) }
        if (typeof one === 'string') return isSecret(one) ? { $text: keep(step, host, one) } : one
        if (typeof one === 'function' || one === undefined || typeof one === 'symbol') return undefined
        if (one === null || typeof one !== 'object') return one
        if (one instanceof Date) return { $date: one.toISOString() }
        if (one instanceof Map) return { $map: [...one].map(entry => entry.map(encode)) }
        if (one instanceof ProcessOutput) return encodeOutput(one)
        if (Array.isArray(one)) return one.map(encode)
        return Object.fromEntries(Object.entries(one).map(([key, member]) => [key, encode(member)]))
      }
      const encodeOutput = (output: ProcessOutput): unknown => {
        const { exitCode } = output
        try {
          return { stdout: encode(output.stdout), stderr: encode(output.stderr), exitCode }
        } catch (error) {
          // Steps often return a command for whose output nobody cares.
          if (error instanceof UnknownOutcomeError) return { $cut: error.message, exitCode }
          throw error
        }
      }
      let line: string
      try {
        line = JSON.stringify({ step, host, value: encode(value) })
      } catch (error) {
        if (error instanceof RekeyError) throw error
        throw new RekeyError(`what '${step}' returned can't be kept: ${(error as Error).message}`, {
          code: 'run.registered',
          hint: 'Return plain data: a resumed run reads it from a file.',
        })
      }
      file.add(line)
      await file.flush()
    },
    close: () => file.close(),
  }
}

/**
 * What the steps of a run returned, the last time that each of them did.
 * @throws RekeyError where a secret's file is missing
 */
export function readRegistered(folder: string): Registered {
  const registered: Registered = new Map()
  const reveal = (name: string): string => {
    try {
      return readFileSync(join(folder, secretsFolder, name), 'utf8')
    } catch (cause) {
      throw new RekeyError(`${join(folder, secretsFolder, name)} can't be read, and the run needs what is in it`, {
        code: 'run.secret-missing',
        hint: 'Copy the folder of the run whole, with the files that only its owner may read.',
        cause,
      })
    }
  }
  const decode = (_key: string, value: unknown): unknown => {
    if (value === null || typeof value !== 'object') return value
    if ('$cut' in value) return cutOutput(value as { $cut: string; exitCode: number })
    const [[key, member] = [], ...more] = Object.entries(value)
    if (more.length > 0) return value
    if (key === '$secret') return new Secret(reveal(String(member)))
    // Which part of it is secret is known to nobody any more.
    if (key === '$text') return new Secret(reveal(String(member))).reveal()
    if (key === '$date') return new Date(String(member))
    if (key === '$map') return new Map(member as [unknown, unknown][])
    return value
  }
  for (const line of linesOf(join(folder, fileName))) {
    const { step, host, value } = JSON.parse(line, decode) as { step: string; host: string; value: unknown }
    const values = registered.get(step) ?? new Map<string, unknown>()
    registered.set(step, values.set(host, value))
  }
  return registered
}

/** The output of a command of which part may be missing: whoever reads it is told, also in a resumed run. */
function cutOutput({ $cut: message, exitCode }: { $cut: string; exitCode: number }): object {
  const refuse = () => {
    throw new UnknownOutcomeError(message, { code: 'connection.output-cut', hint: 'Run that step once more.' })
  }
  return Object.defineProperties({ exitCode }, { stdout: { get: refuse }, stderr: { get: refuse } })
}
