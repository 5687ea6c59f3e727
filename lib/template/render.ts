// Renders templates in consul-template's language: collect the secrets that a pass lacks, fetch them at once, render again.
import { createHash, X509Certificate } from 'node:crypto'
import { posix } from 'node:path'
import { RekeyError } from '../errors.ts'
import { type ParsedTemplate, parseTemplate, type TemplateDelimiters } from './engine.ts'
import { templateFunctions, type WrittenFile } from './functions.ts'
import type { MachineInterfaces } from './sockaddr.ts'
import {
  EmptyDot,
  type GoFunction,
  type GoMap,
  type GoValue,
  Missing,
  Struct,
  secretToGo,
  toBytes,
  toGo,
} from './values.ts'

export type { MachineInterfaces, TemplateDelimiters, WrittenFile }

/** What a Vault-like source answers. */
export interface SecretResponse {
  readonly request_id?: string
  readonly lease_id?: string
  readonly lease_duration?: number
  readonly renewable?: boolean
  readonly warnings?: readonly string[] | null
  /** Null where a login answers. */
  readonly data: Readonly<Record<string, unknown>> | null
  /** What a login, or the making of a token, answers. */
  readonly auth?: Readonly<Record<string, unknown>> | null
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
  /** Where `secrets` gets the names below a path. Without it `secrets` is refused. */
  readonly list?: (path: string) => Promise<readonly string[] | undefined>
  /** What `env` sees. Default: nothing. */
  readonly environment?: Readonly<Record<string, string | undefined>>
  /** How `file` reads; rejects where it can't. Without it `file` is refused. */
  readonly readFile?: (path: string) => Promise<string>
  /** What `timestamp` tells. */
  readonly now?: () => Date
  /** What `sockaddr` works on: asked for once, where it is called. Without it `sockaddr` is refused. */
  readonly interfaces?: () => Promise<MachineInterfaces>
}

export interface RenderOptions {
  /** What errors call the template: its file. */
  readonly name: string
  /** What fields `.` has. consul-template leaves it empty, and so it is for `if`, `with` and their like. */
  readonly data?: Readonly<Record<string, unknown>>
  readonly delimiters?: TemplateDelimiters
  /** A missing key is an error where it is read, not only where it is printed (`error_on_missing_key`). */
  readonly strictKeys?: boolean
  /** Names of functions that the template may not call; `*` stands for any characters (`function_denylist`). */
  readonly deniedFunctions?: readonly string[]
  /** `file` is refused outside of this folder (`sandbox_path`); links within it are for `readFile` to judge. */
  readonly sandboxPath?: string
}

export interface Rendered {
  readonly output: string
  /** The output byte by byte, where it is not text. */
  readonly bytes: Buffer
  /** What the template wrote with `writeToFile`: nothing was placed yet. */
  readonly files: readonly WrittenFile[]
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
  const answers = new Map<string, GoValue>()
  const pending = new Map<string, Promise<void>>()
  let machine: MachineInterfaces | undefined

  /** Run `fetch` once for a key, however many templates wait for it. A failed one may be asked for again. */
  const once = (key: string, fetch: () => Promise<GoValue>) => {
    const fetched = async () => {
      answers.set(key, await fetch())
    }
    const running = pending.get(key) ?? fetched().finally(() => pending.delete(key))
    pending.set(key, running)
    return running
  }

  const render = async (source: string, options: RenderOptions): Promise<Rendered> => {
    const used = new Map<string, SecretRequest>()
    const missing = new Map<string, MissingAnswer>()
    const failures = new Map<string, unknown>()
    const files: WrittenFile[] = []

    /** The answer if it is there; else `meanwhile`, and the question is asked after this pass. */
    const answer = (key: string, fetch: () => Promise<GoValue>, meanwhile: GoValue, isWrite = false): GoValue => {
      if (failures.has(key)) throw failures.get(key)
      if (answers.has(key)) return answers.get(key)!
      missing.set(key, { fetch, isWrite })
      return meanwhile
    }
    const ask = (kind: string, request: SecretRequest, present: (response: SecretResponse) => GoValue) => {
      const key = requestKey(kind, request)
      used.set(key, request)
      const fetch = async () => present(found(await fetchOnce(request), request))
      return answer(key, fetch, null, request.data !== undefined)
    }
    const fetchOnce = ({ path, data }: SecretRequest) => shared(requestKey('fetch', { path, data }), path, data)

    const functions = templateFunctions({
      environment: settings.environment ?? {},
      now: settings.now ?? (() => new Date()),
      interfaces: () => {
        const { interfaces } = settings
        if (!interfaces) {
          throw new RekeyError("sockaddr: the machine's addresses are not known here", { code: 'template.refused' })
        }
        answer(
          'interfaces',
          async () => {
            machine = await interfaces()
            return null
          },
          null,
        )
        return machine
      },
      secret: (path, data) => ask('secret', { path, data }, presentSecret),
      pkiCert: (path, data) => ask('pkiCert', { path, data }, presentCertificate),
      list: path => {
        const { list } = settings
        if (!list) throw new RekeyError('secrets: nothing can be listed here', { code: 'template.refused' })
        return answer(`list ${path}`, async () => ((await list(path)) ?? []).map(toBytes), [])
      },
      file: path => {
        const { readFile } = settings
        if (!readFile) throw new RekeyError('file: no files can be read here', { code: 'template.refused' })
        if (options.sandboxPath !== undefined) checkSandbox(path, options.sandboxPath)
        return answer(`file ${path}`, async () => toBytes(await readFile(path)), '')
      },
      write: file => void files.push(file),
    })
    deny(functions, options.deniedFunctions ?? [])
    const { name, data, delimiters, strictKeys } = options
    const template = parseTemplate(source, { name, delimiters, strictKeys, functions: new Set(functions.keys()) })
    const dot = data === undefined ? null : new EmptyDot(toGo(data) as GoMap)

    for (let pass = 0; pass < mostPasses; pass++) {
      used.clear()
      missing.clear()
      files.length = 0
      const output = attempt(() => template.execute(dot, functions), missing)
      if (output !== undefined) {
        const bytes = Buffer.from(output, 'latin1')
        return { output: bytes.toString('utf8'), bytes, files, requests: [...used.values()] }
      }
      await fetchAll(missing, once, failures)
      if (failures.size > 0) throwWhereCalled(template, dot, functions, failures)
    }
    throw new RekeyError(`${name}: asks for something new in every one of ${mostPasses} passes`, {
      code: 'template.endless',
      hint: 'Parameters of a secret must not change from pass to pass.',
    })
  }

  /** `secret` and `pkiCert` with the same parameters are one request too. */
  const responses = new Map<string, Promise<SecretResponse | undefined>>()
  const shared = (key: string, path: string, data: SecretRequest['data']) => {
    const known = responses.get(key) ?? settings.secrets(path, data)
    responses.set(key, known)
    known.catch(() => responses.delete(key))
    return known
  }
  return { render }
}

function checkSandbox(path: string, folder: string): void {
  const inside = posix.relative(posix.resolve(folder), posix.resolve(path))
  if (inside !== '..' && !inside.startsWith('../')) return
  throw new RekeyError(`file: ${path} is outside of the sandbox ${folder}`, { code: 'template.refused' })
}

function deny(functions: Map<string, GoFunction>, patterns: readonly string[]): void {
  for (const pattern of patterns) {
    const parts = pattern.split('*').map(part => part.replaceAll(/[\\^$.+?()[\]{}|]/g, '\\$&'))
    const matches = new RegExp(`^${parts.join('.*')}$`, 's')
    for (const name of [...functions.keys()].filter(name => matches.test(name))) {
      functions.set(name, () => {
        throw new RekeyError(`${name} is disabled by the configuration`, { code: 'template.refused' })
      })
    }
  }
}

/** The output, or undefined while something is missing: then an error may only come from that. */
function attempt(execute: () => string, missing: ReadonlyMap<string, unknown>): string | undefined {
  try {
    const output = execute()
    return missing.size === 0 ? output : undefined
  } catch (error) {
    if (missing.size === 0) throw error
    return undefined
  }
}

/** A question that a pass had to go on without. */
interface MissingAnswer {
  readonly fetch: () => Promise<GoValue>
  readonly isWrite: boolean
}

/**
 * Wait for all, so that no request is still under way when a failure is told. Where something is still to be read, nothing is written:
 * what is asked for may hang on it, and a certificate of the wrong name would be issued, or a request refused that nobody meant.
 */
async function fetchAll(
  missing: ReadonlyMap<string, MissingAnswer>,
  once: (key: string, fetch: () => Promise<GoValue>) => Promise<void>,
  failures: Map<string, unknown>,
): Promise<void> {
  const reads = [...missing].filter(([, { isWrite }]) => !isWrite)
  const next = reads.length > 0 ? reads : [...missing]
  await Promise.all(next.map(([key, { fetch }]) => once(key, fetch).catch(error => failures.set(key, error))))
}

/** One more pass, so that a failure gets the line and column of its call. */
function throwWhereCalled(
  template: ParsedTemplate,
  dot: GoValue,
  functions: Parameters<ParsedTemplate['execute']>[1],
  failures: ReadonlyMap<string, unknown>,
): never {
  template.execute(dot, functions)
  throw failures.values().next().value
}

function found(response: SecretResponse | undefined, { path }: SecretRequest): SecretResponse {
  if (response) return response
  throw new RekeyError(`no secret exists at ${path}`, {
    code: 'template.no-secret',
    hint: 'Correct the path, or write the secret first.',
  })
}

/** The answer of `secret` as consul-template's templates see it. */
function presentSecret(response: SecretResponse): GoValue {
  return new Struct('secret', {
    RequestID: toBytes(response.request_id ?? ''),
    LeaseID: toBytes(response.lease_id ?? ''),
    LeaseDuration: BigInt(response.lease_duration ?? 0),
    Renewable: response.renewable ?? false,
    Data: secretToGo(response.data),
    Warnings: toGo(response.warnings ?? []),
    Auth: presentAuth(response.auth),
  })
}

function presentAuth(auth: SecretResponse['auth']): GoValue {
  if (!auth) return null
  const { client_token: token, accessor, policies, metadata, lease_duration: seconds, renewable } = auth
  return new Struct('login', {
    ClientToken: toBytes(String(token ?? '')),
    Accessor: toBytes(String(accessor ?? '')),
    Policies: toGo(policies ?? []),
    Metadata: toGo(metadata ?? {}),
    LeaseDuration: BigInt(Number(seconds ?? 0)),
    Renewable: renewable === true,
  })
}

const pemBlock = /-----BEGIN ([A-Z0-9 ]+)-----[^-]+-----END \1-----/g

/** The answer of `pkiCert`: every PEM block of it, sorted by what it is. */
function presentCertificate(response: SecretResponse): GoValue {
  const { certificate, private_key: key, issuing_ca: issuer, ca_chain: chain } = response.data ?? {}
  const texts = [certificate, issuer, ...(Array.isArray(chain) ? chain : []), key]
  const blocks = texts.flatMap(text => (typeof text === 'string' ? [...text.matchAll(pemBlock)] : []))
  const fields = { Cert: '', Key: '' }
  const authorities = new Set<string>()
  for (const [block, label] of blocks) {
    const pem = `${block}\n`
    if (label!.endsWith('PRIVATE KEY')) fields.Key = pem
    else if (new X509Certificate(pem).ca) authorities.add(pem)
    else fields.Cert = pem
  }
  if (fields.Cert === '') throw new Error('the answer holds no certificate')
  // An empty file is no key, and no CA: whoever writes one is told.
  const said = (name: string, pem = '') => (pem === '' ? new Missing(name, [], { written: '' }) : pem)
  const [first] = authorities
  const own: Struct = new Struct(
    'certificate',
    { Cert: fields.Cert, CA: said('CA', first), Key: said('Key', fields.Key), CAChain: [...authorities] },
    { Data: () => own },
  )
  return own
}

/** Hashed, since what is written may be a secret and keys end up in maps that outlive the call. */
function requestKey(kind: string, { path, data }: SecretRequest): string {
  const pairs = Object.entries(data ?? {}).sort(([a], [b]) => (a < b ? -1 : 1))
  return createHash('sha256')
    .update(JSON.stringify([kind, path, data === undefined ? null : pairs]))
    .digest('hex')
}
