// Debian's Chromium, driven over its own pipe: pages at a width, by day and by night, asked what they look like.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { temporaryFolder } from '../_temporary.ts'

/** How a page is looked at. */
export interface Looked {
  readonly width: number
  readonly dark?: boolean
  readonly print?: boolean
}

/** A page that is open. */
export interface OpenPage {
  /** What an expression gives in the page, as plain data. */
  evaluate<T>(expression: string): Promise<T>
  /** The page from its top on, as far as is looked at, PNG. */
  picture(): Promise<Buffer>
}

/** A browser. */
export interface Browser {
  /** Opens a file, once it is loaded and drawn. */
  open(file: string, looked: Looked): Promise<OpenPage>
  close(): Promise<void>
}

/** Whether there is one on this machine. */
export function chromiumPath(): string | undefined {
  try {
    return execFileSync('sh', ['-c', 'command -v chromium'], { encoding: 'utf8' }).trim() || undefined
  } catch {
    return undefined
  }
}

interface Answer {
  readonly id?: number
  readonly method?: string
  readonly sessionId?: string
  readonly result?: Record<string, unknown>
  readonly error?: { readonly message: string }
}

/** Pixels of a picture, from above: all that there is to see is there, and thousands more take long to read. */
const mostPixels = 4_500

/** Starts a browser with nothing of its owner's in it. */
export async function startBrowser(path: string): Promise<Browser> {
  const child = spawn(
    path,
    [
      ...[
        '--headless=new',
        '--no-sandbox',
        '--disable-gpu',
        '--hide-scrollbars',
        '--no-first-run',
        '--disable-extensions',
      ],
      ...['--disable-background-networking', '--disable-component-update', '--disable-dev-shm-usage', '--mute-audio'],
      ...['--remote-debugging-pipe', `--user-data-dir=${temporaryFolder('chromium')}`, 'about:blank'],
    ],
    { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] },
  )
  const { send, once } = speak(child)
  return {
    open: async (file, { width, dark = false, print = false }) => {
      const { targetId } = await send('Target.createTarget', { url: 'about:blank' })
      const { sessionId } = (await send('Target.attachToTarget', { targetId, flatten: true })) as { sessionId: string }
      const ask = (method: string, params: object = {}) => send(method, params, sessionId)
      await ask('Page.enable')
      const metrics = (height: number) =>
        ask('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 })
      await metrics(900)
      const features = [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }]
      await ask('Emulation.setEmulatedMedia', { media: print ? 'print' : '', features })
      const loaded = once('Page.loadEventFired', sessionId)
      await ask('Page.navigate', { url: pathToFileURL(file).href })
      await loaded
      const evaluate = async <T>(expression: string) => {
        const { result, exceptionDetails } = (await ask('Runtime.evaluate', {
          ...{ expression, returnByValue: true, awaitPromise: true },
        })) as { result: { value: T }; exceptionDetails?: { exception?: { description?: string } } }
        if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? 'it threw')
        return result.value
      }
      // Two frames later it is drawn.
      await evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))')
      return {
        evaluate,
        picture: async () => {
          const height = await evaluate<number>('document.documentElement.scrollHeight')
          const clip = { x: 0, y: 0, width, height: Math.min(height, mostPixels), scale: 1 }
          const { data } = await ask('Page.captureScreenshot', { format: 'png', captureBeyondViewport: true, clip })
          return Buffer.from(data as string, 'base64')
        },
      }
    },
    close: async () => {
      const gone = new Promise(done => child.once('exit', done))
      await send('Browser.close').catch(() => {})
      child.kill()
      await gone
    },
  }
}

/** Its protocol: JSON with a zero behind it, over two pipes. */
function speak(child: ChildProcess) {
  const [to, from] = [child.stdio[3] as Writable, child.stdio[4] as Readable]
  const waiting = new Map<number, { resolve(result: Record<string, unknown>): void; reject(error: Error): void }>()
  const events: { method: string; sessionId: string; done(): void }[] = []
  let [last, text] = [0, '']
  const take = (answer: Answer) => {
    const asked = waiting.get(answer.id ?? 0)
    waiting.delete(answer.id ?? 0)
    if (answer.error) asked?.reject(new Error(answer.error.message))
    else asked?.resolve(answer.result ?? {})
    const event = events.findIndex(one => one.method === answer.method && one.sessionId === answer.sessionId)
    if (event >= 0) events.splice(event, 1)[0]!.done()
  }
  from.setEncoding('utf8').on('data', (piece: string) => {
    text += piece
    const whole = text.split('\0')
    text = whole.pop()!
    for (const one of whole) take(JSON.parse(one) as Answer)
  })
  to.on('error', () => {})
  child.once('exit', () => {
    for (const { reject } of waiting.values()) reject(new Error('the browser has ended'))
  })
  return {
    send: (method: string, params: object = {}, sessionId?: string): Promise<Record<string, unknown>> =>
      new Promise((resolve, reject) => {
        const id = ++last
        waiting.set(id, { resolve, reject })
        to.write(`${JSON.stringify({ id, method, params, sessionId })}\0`)
      }),
    once: (method: string, sessionId: string) => new Promise<void>(done => events.push({ method, sessionId, done })),
  }
}
