// Channels over an ssh of the system that is logged in already: what `ssh -O proxy` does, without a process for each command.
// Over the socket of a master, OpenSSH speaks the plain connection protocol (PROTOCOL.mux of OpenSSH; RFC 4254, section 5), with
// frames of a length, a padding length of 0, and a message.
import { EventEmitter } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Duplex, Readable } from 'node:stream'
import { foreignWords } from '../../foreign-words.ts'
import type { ChannelSource } from '../commands/channels.ts'
import type { CommandChannel } from '../commands/terminal.ts'

const hello = 1
const muxVersion = 4
const wantProxy = 0x1000000f
const isProxy = 0x8000000f

const message = {
  globalRequest: 80,
  requestFailure: 82,
  open: 90,
  openConfirmation: 91,
  openFailure: 92,
  windowAdjust: 93,
  data: 94,
  extendedData: 95,
  eof: 96,
  close: 97,
  request: 98,
  success: 99,
  failure: 100,
} as const

/** What a host may send before we have read some of it. */
const window = 2 * 1024 * 1024
const largestPacket = 32 * 1024

/** Channels over the control socket of a master. */
export interface SharedChannels extends ChannelSource {
  /** Ends all of them. */
  end(): void
  once(event: 'close', listener: () => void): unknown
}

/**
 * Opens the way to a master.
 * @param path its control socket
 */
export async function openSharedChannels(path: string): Promise<SharedChannels> {
  const socket = connect(path)
  socket.on('error', () => {})
  const frames = readFrames(socket)
  const next = async () => {
    const { value } = await frames.next()
    if (value === undefined) throw new Error('the master of the connection hung up')
    return new Reader(value)
  }
  try {
    const greeting = await next()
    if (greeting.number() !== hello || greeting.number() !== muxVersion) {
      throw new Error('the master of the connection speaks another version')
    }
    socket.write(frame(number(hello), number(muxVersion)))
    socket.write(frame(number(wantProxy), number(0)))
    if ((await next()).number() !== isProxy) throw new Error('the master of the connection refuses to share it')
    return new Channels(socket, frames)
  } catch (error) {
    socket.destroy()
    throw error
  }
}

class Channels extends EventEmitter implements SharedChannels {
  readonly #socket: Socket
  readonly #channels = new Map<number, Channel>()
  #nextId = 0

  constructor(socket: Socket, frames: AsyncGenerator<Buffer, undefined>) {
    super()
    this.on('error', () => {})
    this.#socket = socket
    void this.#receive(frames)
  }

  exec(
    command: string,
    { pty = false }: { pty?: boolean },
    callback: (error: Error | undefined, channel: CommandChannel) => void,
  ): void {
    this.#open('session', [], callback, channel => {
      // A dumb terminal of no size, without modes.
      if (pty)
        channel.request('pty-req', false, text('vt100'), number(80), number(24), number(0), number(0), text('\0'))
      channel.request('exec', true, text(command))
    })
  }

  forwardOut(
    fromAddress: string,
    fromPort: number,
    address: string,
    port: number,
    callback: (error: Error | undefined, channel: Duplex) => void,
  ): void {
    this.#open('direct-tcpip', [text(address), number(port), text(fromAddress), number(fromPort)], callback)
  }

  end(): void {
    this.#socket.end()
  }

  #open(
    type: string,
    more: Buffer[],
    callback: (error: Error | undefined, channel: CommandChannel) => void,
    opened?: (channel: Channel) => void,
  ): void {
    if (this.#socket.destroyed) {
      callback(new Error('the connection is closed'), undefined as never)
      return
    }
    const id = this.#nextId++
    const send = (type: number, ...parts: Buffer[]) => this.#send(type, ...parts)
    const channel = new Channel(send, {
      ready: error => {
        if (!error) return callback(undefined, channel)
        this.#channels.delete(id)
        callback(error, undefined as never)
      },
      opened,
      gone: () => this.#channels.delete(id),
    })
    this.#channels.set(id, channel)
    this.#send(message.open, text(type), number(id), number(window), number(largestPacket), ...more)
  }

  #send(type: number, ...parts: Buffer[]): void {
    if (!this.#socket.destroyed) this.#socket.write(frame(Buffer.from([0, type]), ...parts))
  }

  async #receive(frames: AsyncGenerator<Buffer, undefined>): Promise<void> {
    try {
      for await (const bytes of frames) {
        const reader = new Reader(bytes.subarray(2))
        const type = bytes[1] ?? 0
        if (type === message.globalRequest) {
          reader.bytes()
          if (reader.boolean()) this.#send(message.requestFailure)
        } else if (type >= message.open) {
          this.#channels.get(reader.number())?.receive(type, reader)
        }
      }
    } catch (error) {
      // A reset is an end like any other; why else it ends is worth telling.
      if ((error as NodeJS.ErrnoException).code === undefined) this.emit('error', error)
    }
    this.#socket.destroy()
    this.emit('close')
    for (const channel of this.#channels.values()) channel.lose()
    this.#channels.clear()
  }
}

interface ChannelEvents {
  /** Called once: the channel may be used, or not. */
  ready(error?: Error): void
  /** Sends what the channel is opened for, where its reply counts. */
  opened?(channel: Channel): void
  gone(): void
}

class Channel extends Duplex implements CommandChannel {
  readonly stderr: Readable
  readonly #send: (type: number, ...parts: Buffer[]) => void
  readonly #events: ChannelEvents
  /** Its number at the other end. */
  #theirs = 0
  #ready = false
  /** How much the host takes before it says that it takes more. */
  #room = 0
  #largest = largestPacket
  /** Writes on, once there is room. */
  #waiting: (() => void) | undefined
  /** What was read, and the host was not told of yet. */
  #credit = 0
  /** What the host may send yet. */
  #allowed = window
  /** What lies in a stream that is full. */
  readonly #unread = new Map<Readable, number>()
  #closed = false
  #over = false
  #streamsOpen = 2

  constructor(send: (type: number, ...parts: Buffer[]) => void, events: ChannelEvents) {
    super({ autoDestroy: false, emitClose: false })
    this.#send = send
    this.#events = events
    const stderr: Readable = new Readable({ read: () => this.#readOn(stderr), autoDestroy: false, emitClose: false })
    this.stderr = stderr
    for (const stream of [this, stderr]) {
      stream.once('end', () => {
        this.#streamsOpen--
        this.#tellWhenOver()
      })
    }
  }

  /** Takes a message for this channel. */
  receive(type: number, reader: Reader): void {
    switch (type) {
      case message.openConfirmation:
        this.#theirs = reader.number()
        this.#room = reader.number()
        this.#largest = Math.min(reader.number(), largestPacket)
        if (this.#events.opened) this.#events.opened(this)
        else this.#begin()
        break
      case message.openFailure:
        this.#begin(notOpened(reader.number(), reader.bytes().toString('utf8')))
        break
      case message.success:
        this.#begin()
        break
      case message.failure:
        if (!this.#ready) this.close()
        this.#begin(new Error('the host refuses to run it'))
        break
      case message.windowAdjust:
        this.#room += reader.number()
        this.#writeOn()
        break
      case message.data:
        this.#take(this, reader.bytes())
        break
      case message.extendedData:
        reader.number()
        this.#take(this.stderr, reader.bytes())
        break
      case message.request:
        this.#answer(reader)
        break
      case message.eof:
        this.#endStreams()
        break
      case message.close:
        this.close()
        this.lose()
        break
    }
  }

  /** Asks for something on this channel. */
  request(type: string, wantReply: boolean, ...parts: Buffer[]): void {
    this.#send(message.request, number(this.#theirs), text(type), Buffer.from([wantReply ? 1 : 0]), ...parts)
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#send(message.close, number(this.#theirs))
  }

  /** Nothing comes any more. */
  lose(): void {
    this.#closed = true
    this.#over = true
    this.#events.gone()
    this.#begin(new Error('the connection was closed'))
    this.#endStreams()
    this.#writeOn()
    this.#tellWhenOver()
  }

  override _read(): void {
    this.#readOn(this)
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    let at = 0
    const pour = () => {
      while (at < chunk.length && this.#room > 0 && !this.#closed) {
        const piece = chunk.subarray(at, at + Math.min(this.#room, this.#largest))
        this.#room -= piece.length
        at += piece.length
        this.#send(message.data, number(this.#theirs), bytes(piece))
      }
      if (at < chunk.length && !this.#closed) this.#waiting = pour
      else done()
    }
    pour()
  }

  override _final(done: () => void): void {
    if (!this.#closed) this.#send(message.eof, number(this.#theirs))
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.close()
    this.#streamsOpen = 0
    this.#tellWhenOver()
    done(error)
  }

  #begin(error?: Error): void {
    if (this.#ready) return
    this.#ready = true
    this.#events.ready(error)
  }

  #writeOn(): void {
    const pour = this.#waiting
    this.#waiting = undefined
    pour?.()
  }

  #take(stream: Readable, chunk: Buffer): void {
    this.#allowed -= chunk.length
    if (this.#allowed < 0) throw new Error('the host sent more than it was allowed to')
    if (stream.push(chunk)) this.#read(chunk.length)
    else this.#unread.set(stream, (this.#unread.get(stream) ?? 0) + chunk.length)
  }

  #readOn(stream: Readable): void {
    this.#read(this.#unread.get(stream) ?? 0)
    this.#unread.delete(stream)
  }

  /** Lets the host send more for what was read. */
  #read(count: number): void {
    this.#credit += count
    if (this.#credit < window / 4 || this.#closed) return
    this.#send(message.windowAdjust, number(this.#theirs), number(this.#credit))
    this.#allowed += this.#credit
    this.#credit = 0
  }

  #answer(reader: Reader): void {
    const type = reader.bytes().toString('latin1')
    const wantsReply = reader.boolean()
    if (type === 'exit-status') this.emit('exit', reader.number())
    else if (type === 'exit-signal') this.emit('exit', null, `SIG${reader.bytes().toString('latin1')}`)
    else if (wantsReply) this.#send(message.failure, number(this.#theirs))
  }

  #endStreams(): void {
    for (const stream of [this, this.stderr]) stream.push(null)
  }

  /** Nobody hears of the end before all was read. */
  #tellWhenOver(): void {
    if (!this.#over || this.#streamsOpen > 0) return
    this.#over = false
    this.emit('close')
  }
}

/** Reads the fields of a message one after the other. */
class Reader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  number(): number {
    this.#at += 4
    return this.#bytes.readUInt32BE(this.#at - 4)
  }

  boolean(): boolean {
    return this.#bytes[this.#at++] !== 0
  }

  bytes(): Buffer {
    const length = this.number()
    this.#at += length
    return this.#bytes.subarray(this.#at - length, this.#at)
  }
}

async function* readFrames(socket: Socket): AsyncGenerator<Buffer, undefined> {
  let rest = Buffer.alloc(0)
  for await (const chunk of socket) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const end = 4 + rest.readUInt32BE(0)
      yield rest.subarray(4, end)
      rest = rest.subarray(end)
    }
  }
}

function frame(...parts: Buffer[]): Buffer {
  return bytes(Buffer.concat(parts))
}

function bytes(content: Buffer): Buffer {
  return Buffer.concat([number(content.length), content])
}

/** As ssh2 says it. */
function notOpened(reason: number, words: string): Error {
  return Object.assign(new Error(`(SSH) Channel open failure: ${foreignWords(words)}`), { reason })
}

function text(content: string): Buffer {
  return bytes(Buffer.from(content))
}

function number(value: number): Buffer {
  const four = Buffer.alloc(4)
  four.writeUInt32BE(value)
  return four
}
