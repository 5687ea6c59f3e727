// A renderer for listr2 that fits the screen. listr2's own draws every task at every line of output, and breaks where the list is taller
// than the screen; this one draws a picture of the run a few times a second, and what is to stay goes above it.
import { type ListrRenderer, ProcessOutputStream, Spinner } from 'listr2'
import { createLogUpdate } from 'log-update'
import type { Screen } from './pictures/folding.ts'
import { widthOf } from './text.ts'

/** What the renderer draws; listr2 hands it on. */
export interface TreeRendererOptions {
  readonly out: NodeJS.WriteStream
  /** The picture while the run goes on. */
  live(screen: Screen, tick: number): string[]
  /** The picture that stays. */
  final(screen: Screen): string[]
  /** Takes what is to stay above the picture, and was not told yet: whole lines. */
  above(): string[]
  /** What others wrote to the terminal, as it can be shown. */
  foreign(text: string): string
}

/** Milliseconds between two pictures. */
const interval = 120

const hideCursor = '\x1b[?25l'
const showCursor = '\x1b[?25h'
const eraseLineAndGoUp = '\x1b[2K\x1b[1A'

export class TreeRenderer implements ListrRenderer {
  static nonTTY = true
  static rendererOptions: TreeRendererOptions
  static rendererTaskOptions: never
  readonly #options: TreeRendererOptions
  readonly #spinner = new Spinner()
  /** What others write while there is a picture would tear it: it is kept, and put above it. */
  readonly #streams: ProcessOutputStream[]
  readonly #update: ReturnType<typeof createLogUpdate>
  #tick = 0
  #drawn: string[] = []

  constructor(_tasks: unknown, options: TreeRendererOptions) {
    this.#options = options
    const out = new ProcessOutputStream(options.out)
    this.#streams = [out]
    if (process.stderr.isTTY) this.#streams.push(new ProcessOutputStream(process.stderr))
    this.#update = createLogUpdate(out.out as NodeJS.WriteStream, { showCursor: true })
  }

  render = (): void => {
    for (const stream of this.#streams) stream.hijack()
    this.#write(hideCursor)
    this.#options.out.on('resize', this.#onResize)
    process.on('exit', this.#onExit)
    process.on('SIGCONT', this.#onContinue)
    this.#spinner.start(() => this.#draw(), interval)
    this.#draw()
  }

  end = (): void => {
    this.#leave()
    const rest = [...this.#options.above(), ...this.#options.final(this.#screen())]
    if (rest.length > 0) this.#options.out.write(`${rest.join('\n')}\n`)
  }

  /** Takes the picture away, and gives the streams back with what was written to them. */
  #leave(): void {
    this.#spinner.stop()
    this.#options.out.off('resize', this.#onResize)
    process.off('exit', this.#onExit)
    process.off('SIGCONT', this.#onContinue)
    this.#update.clear()
    this.#write(showCursor)
    for (const stream of this.#streams) {
      const text = this.#taken(stream)
      if (text !== '') stream.write(text)
    }
  }

  #draw(): void {
    const { above, live } = this.#options
    const said = [...this.#captured(), ...above()]
    if (said.length > 0) {
      this.#update.clear()
      this.#write(`${said.join('\n')}\n`)
    }
    this.#drawn = live(this.#screen(), this.#tick++)
    this.#update(this.#drawn.join('\n'))
  }

  #captured(): string[] {
    return this.#streams.flatMap(stream => {
      const text = this.#taken(stream)
      stream.hijack()
      return text === '' ? [] : [text.replace(/\n$/, '')]
    })
  }

  #taken(stream: ProcessOutputStream): string {
    return this.#options.foreign(
      stream
        .release()
        .map(({ entry }) => entry)
        .join(''),
    )
  }

  #screen(): Screen {
    const { columns = 80, rows = 24 } = this.#options.out
    return { columns, rows }
  }

  #write(text: string): void {
    this.#streams[0]?.write(text)
  }

  /** A narrower screen breaks the lines that are there: the picture takes more rows than were drawn. */
  #onResize = (): void => {
    const { columns } = this.#screen()
    const more = this.#drawn.reduce((sum, line) => sum + Math.max(0, Math.ceil(widthOf(line) / columns) - 1), 0)
    this.#write(eraseLineAndGoUp.repeat(more))
    this.#draw()
  }

  /** Back from where Ctrl-Z led: what is on the screen now is not the picture. */
  #onContinue = (): void => {
    this.#update.done()
    this.#write(hideCursor)
  }

  #onExit = (): void => this.#leave()
}
