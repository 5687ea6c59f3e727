// A KMS plugin at a socket, with answers of a test's own.
import { createServer } from 'node:http2'
import type { ExecutionContext } from 'ava'
import { eachField, messageOf } from '../../lib/operations/grpc/protobuf.ts'

export type Fields = Parameters<typeof messageOf>[0]

/** What a plugin answers to a method: fields, or why not. */
export type Answers = Readonly<Record<string, (asked: ReadonlyMap<number, Buffer>) => Fields | string>>

/** A plugin at a socket; each answer is one of gRPC, whose status comes behind its body. */
export async function pluginAt(t: ExecutionContext, socket: string, answers: Answers): Promise<void> {
  const server = createServer()
  server.on('stream', (stream, headers) => {
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('end', () => {
      const asked = new Map<number, Buffer>()
      eachField(Buffer.concat(chunks).subarray(5), (field, bytes) => asked.set(field, Buffer.from(bytes)))
      const answer = answers[headers[':path']!.split('/').at(-1)!]!(asked)
      const isRefused = typeof answer === 'string'
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
      stream.on('wantTrailers', () =>
        stream.sendTrailers(isRefused ? { 'grpc-status': '2', 'grpc-message': answer } : { 'grpc-status': '0' }),
      )
      const message = messageOf(isRefused ? [] : answer)
      const head = Buffer.alloc(5)
      head.writeUInt32BE(message.length, 1)
      stream.end(isRefused ? undefined : Buffer.concat([head, message]))
    })
  })
  t.teardown(() => server.close())
  await new Promise<void>(resolve => server.listen(socket, resolve))
}
