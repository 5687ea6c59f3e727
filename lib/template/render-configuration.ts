// Renders every template of a configuration, all or none: nothing is for placing before all of them came out.
import { posix } from 'node:path'
import { RekeyError } from '../errors.ts'
import type { TemplateBlock, TemplateConfiguration } from './configuration.ts'
import type { Rendered, Renderer } from './render.ts'

/** A template of the configuration, and what became of it. */
export interface RenderedBlock extends Rendered {
  readonly block: TemplateBlock
}

/**
 * Render all templates of a configuration with one renderer, so that what they ask alike is asked once.
 * `readSource` reads a block's `source`, wherever that lies. `data` is what `.` is in each.
 * Rejects with the first failure, by the order of the blocks, after all requests under way have ended.
 */
export async function renderConfiguration(
  { templates }: Pick<TemplateConfiguration, 'templates'>,
  renderer: Renderer,
  { readSource, data }: { readSource(path: string): Promise<string>; data?: Readonly<Record<string, unknown>> },
): Promise<RenderedBlock[]> {
  checkDestinations(templates)
  const all = await Promise.allSettled(
    templates.map(async block => {
      const name = block.source ?? `${block.place} (contents)`
      const source = block.contents ?? (await readSource(block.source!))
      const { delimiters, strictKeys, deniedFunctions, sandboxPath } = block
      const options = { name, data, delimiters, strictKeys, deniedFunctions, sandboxPath }
      return { block, ...(await renderer.render(source, options)) }
    }),
  )
  return all.map(one => {
    if (one.status === 'rejected') throw one.reason
    return one.value
  })
}

/** As `consul-template -dry` prints it; where several hosts are told of, `host:` stands before each destination. */
export function dryText(rendered: readonly RenderedBlock[], host?: string): Buffer {
  const where = host === undefined ? '' : `${host}:`
  return Buffer.concat(rendered.flatMap(({ block, bytes }) => [Buffer.from(`> ${where}${block.destination}\n`), bytes]))
}

function checkDestinations(templates: readonly TemplateBlock[]): void {
  const places = new Map<string, string>()
  for (const { destination, place } of templates) {
    // A path may be spelled in several ways.
    const path = posix.normalize(destination)
    const before = places.get(path)
    if (before) {
      throw new RekeyError(`${place}: ${destination} is the destination of the template at ${before} too`, {
        code: 'configuration.template',
      })
    }
    places.set(path, place)
  }
}
