// Renders templates in consul-template's language: collect the secrets that a pass lacks, fetch them at once, render again.
import { createHash } from 'node:crypto'
import { RekeyError } from '../errors.ts'
import { type ParsedTemplate, parseTemplate, type TemplateDelimiters } from './engine.ts'
import { templateFunctions } from './functions.ts'

/** What a Vault-like source answers. */
export interface SecretResponse {
  readonly request_id?: string
  readonly lease_id?: string
  readonly lease_duration?: number
  readonly renewable?: boolean
  readonly data: Readonly<Record<string, unknown>>
}

/**
 * Where `secret` gets its answers: a read without data, a write with it. Undefined where there is nothing.
 * What it rejects with stops the rendering.
 */
export type SecretSource = (
  path: string,
  data?: Readonly<Record<string, string>>,
) => Promise<SecretResponse | undefined>

/** One question to the source. Two are the same when path and data are. */
export interface SecretRequest {
  readonly path: string
  readonly data?: Readonly<Record<string, string>>
}

/** What a renderer draws on. Nothing ambient is read. */
export interface RendererSettings {
  readonly secrets: SecretSource
  /** What `env` sees. Default: nothing. */
  readonly environment?: Readonly<Record<string, string | undefined>>
  /** How `file` reads; rejects where it can't. Without it `file` is refused. */
  readonly readFile?: (path: string) => Promise<string>
}

export interface RenderOptions {
  /** What errors call the template: its file. */
  readonly name: string
  /** What `.` is. consul-template leaves it empty. */
  readonly data?: Readonly<Record<string, unknown>>
  readonly delimiters?: TemplateDelimiters
}

export interface Rendered {
  readonly output: string
  /** The requests whose answers went into the output, each once. They hold what was asked, never what came back. */
  readonly requests: readonly SecretRequest[]
}

export interface Renderer {
  /**
   * Render one template. Rejects with `RekeyError`, `name:line:column` first, for syntax errors, for values that are
   * not there, and for what the source refuses.
   */
  render(source: string, options: RenderOptions): Promise<Rendered>
}

/** As many passes as a template may need: each can only ask for what the answers of the one before let it see. */
const mostPasses = 25

/**
 * A renderer remembers every answer: within its life the same request is made once, so that key, certificate and chain
 * come from one issue when they are rendered with one renderer. Make a new one for each issue that shall be its own.
 */
export function createRenderer(settings: RendererSettings): Renderer {
  const answers = new Map<string, SecretResponse | undefined>()
  const files = new Map<string, string>()
  const pending = new Map<string, Promise<void>>()

  /** Run `fetch` once for a key, however many templates wait for it. A failed one may be asked for again. */
  const once = (key: string, fetch: () => Promise<void>) => {
    const running = pending.get(key) ?? fetch().finally(() => pending.delete(key))
    pending.set(key, running)
    return running
  }

  return {
    render: async (source, { name, data = {}, delimiters }) => {
      const used = new Map<string, SecretRequest>()
      const missing = new Map<string, () => Promise<void>>()
      const failures = new Map<string, unknown>()

      const functions = templateFunctions({
        environment: settings.environment ?? {},
        secret: request => {
          const key = requestKey(request)
          used.set(key, request)
          if (failures.has(key)) throw failures.get(key)
          if (answers.has(key)) return present(answers.get(key), request)
          missing.set(key, async () => void answers.set(key, await settings.secrets(request.path, request.data)))
          return undefined
        },
        file: path => {
          if (!settings.readFile) throw new RekeyError('file: no files can be read here', { code: 'template.refused' })
          const key = `file ${path}`
          if (failures.has(key)) throw failures.get(key)
          if (files.has(key)) return files.get(key)
          const { readFile } = settings
          missing.set(key, async () => void files.set(key, await readFile(path)))
          return ''
        },
      })
      const template = parseTemplate(source, { name, functions, delimiters })

      for (let pass = 0; pass < mostPasses; pass++) {
        used.clear()
        missing.clear()
        const output = attempt(template, data, missing)
        if (output !== undefined) return { output, requests: [...used.values()] }
        await fetchAll(missing, once, failures)
        // One more pass, for the failure to be thrown where it was called from.
        if (failures.size > 0) {
          template.evaluate(data)
          throw failures.values().next().value
        }
      }
      throw new RekeyError(`${name}: asks for something new in every one of ${mostPasses} passes`, {
        code: 'template.endless',
        hint: 'Parameters of a secret must not change from pass to pass.',
      })
    },
  }
}

/** The output, or undefined while something is missing: then an error may only come from that. */
function attempt(template: ParsedTemplate, data: unknown, missing: ReadonlyMap<string, unknown>): string | undefined {
  try {
    const output = template.evaluate(data)
    return missing.size === 0 ? output : undefined
  } catch (error) {
    if (missing.size === 0) throw error
    return undefined
  }
}

/** Wait for all, so that no request is still under way when a failure is told. */
async function fetchAll(
  missing: ReadonlyMap<string, () => Promise<void>>,
  once: (key: string, fetch: () => Promise<void>) => Promise<void>,
  failures: Map<string, unknown>,
): Promise<void> {
  await Promise.all([...missing].map(([key, fetch]) => once(key, fetch).catch(error => failures.set(key, error))))
}

/** The answer as consul-template's templates see it. */
function present(response: SecretResponse | undefined, { path }: SecretRequest): Record<string, unknown> {
  if (!response) {
    throw new RekeyError(`no secret exists at ${path}`, {
      code: 'template.no-secret',
      hint: 'Correct the path, or write the secret first.',
    })
  }
  return {
    RequestID: response.request_id ?? '',
    LeaseID: response.lease_id ?? '',
    LeaseDuration: response.lease_duration ?? 0,
    Renewable: response.renewable ?? false,
    Data: response.data,
  }
}

/** Hashed, since what is written may be a secret and keys end up in maps that outlive the call. */
function requestKey({ path, data }: SecretRequest): string {
  const pairs = Object.entries(data ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256')
    .update(JSON.stringify([path, data === undefined ? null : pairs]))
    .digest('hex')
}
