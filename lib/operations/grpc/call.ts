// One call of gRPC to a server at a unix socket of a host, by the curl of that host: only root there may open the socket. What is asked goes over stdin.
import { foreignWords } from '../../foreign-words.ts'
import type { HostSession } from '../../playbook/model.ts'
import { eachField, messageOf } from './protobuf.ts'

/** The fields of an answer, by their numbers. */
export type Answer = ReadonlyMap<number, readonly Buffer[]>

/** What came of a call: fields, what the server says against it in its own words, or why there is no answer. */
export type Outcome =
  | { readonly kind: 'answer'; readonly fields: Answer }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'none'; readonly why: string; readonly hint?: string }

export interface Call {
  /** The path of the socket on the host. */
  readonly socket: string
  /** `runtime.v1.ImageService`. */
  readonly service: string
  readonly method: string
  /** Fields that have a length, each by its number. */
  readonly fields: Parameters<typeof messageOf>[0]
  /** How long the server is waited for, in seconds. */
  readonly within: number
}

/** The path of the socket that an endpoint names: `unix:///run/…`. */
export const socketOf = (endpoint: string): string => endpoint.replace(/^unix:(\/\/)?/, '')

/** The text of a field that comes once; empty where it does not come. */
export const textOf = (answer: Answer, field: number): string => answer.get(field)?.at(-1)?.toString('utf8') ?? ''

/** Calls. Rejects as the host does where nobody knows how the command ended. */
export async function callGrpc(session: HostSession, call: Call): Promise<Outcome> {
  const { headers, body, code, said } = await post(session, call, framed(messageOf(call.fields)))
  const none = (why: string, hint?: string): Outcome => ({ kind: 'none', why, hint })
  if (code === 127) return none('can not be asked: the host has no curl', 'Install curl, with HTTP/2.')
  if (code === 28) return none(`does not answer to ${call.method} within ${call.within} s`)
  if (code !== 0) return none(`can not be asked: ${foreignWords(said) || `curl ended with ${code}`}`)
  const status = headers.get('grpc-status') ?? ''
  if (status !== '0') return { kind: 'refused', why: decoded(headers.get('grpc-message') ?? '') || status }
  const fields = new Map<number, Buffer[]>()
  const tell = (field: number, bytes: Uint8Array) =>
    void fields.set(field, [...(fields.get(field) ?? []), Buffer.from(bytes)])
  const isWhole = body.length >= 5 && body[0] === 0 && body.readUInt32BE(1) === body.length - 5
  if (isWhole && eachField(body.subarray(5), tell)) return { kind: 'answer', fields }
  return none(`answers ${call.method} with what is no message of gRPC`)
}

/** Five bytes before the message. */
function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

/** gRPC writes what is not printable in percents. */
function decoded(message: string): string {
  try {
    return decodeURIComponent(message)
  } catch {
    return message
  }
}

/** Headers and trailers come line by line, and behind them the body, in base64: what a terminal's line would not carry. */
async function post({ $ }: HostSession, { socket, service, method, within }: Call, body: Buffer) {
  const { stdout, stderr, exitCode } = await $({ quiet: true, nothrow: true, input: body.toString('base64') })`
code=$(mktemp) || exit
{ base64 -d | { curl -sS --http2-prior-knowledge --unix-socket ${socket} --max-time ${within} -X POST -H ${'content-type: application/grpc'} -H ${'te: trailers'} --data-binary @- -D /dev/fd/3 ${`http://localhost/${service}/${method}`}; echo $? >"$code"; } | base64 | tr -d ${'\n'} | sed ${'s/^/body: /'}; } 3>&1 | cat
status=$(cat "$code"); rm -f "$code"; exit "$status"`
  const headers = new Map<string, string>()
  for (const line of stdout.split(/\r?\n/)) {
    const [, name, value] = /^([a-z-]+): (.*)$/.exec(line) ?? []
    if (name !== undefined) headers.set(name, value!)
  }
  return {
    headers,
    body: Buffer.from(headers.get('body') ?? '', 'base64'),
    code: exitCode ?? 1,
    said: stderr.trim(),
  }
}
