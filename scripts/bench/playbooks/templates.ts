// Renders templates for every host, and copies what came of them.
import { join } from 'node:path'
import { copy, createRenderer, play, playbook, step, unchanged } from 'rekey'
import { z } from 'zod'
import { templateItems, templateText } from '../jobs.ts'
import { jobOf } from './job.ts'

const { count } = jobOf('templates')

export default playbook({
  name: 'bench-templates',
  summary: 'Renders templates',
  vars: z.object({}),
  plays: [
    play('Render', { hosts: 'all' }, [
      step('Render the templates', {
        run: async session => {
          const folder = String(session.host.vars['bench_folder'])
          const data = { Host: session.host.name, Items: templateItems }
          const renderer = createRenderer({ secrets: async () => undefined })
          const files = await Promise.all(
            Array.from({ length: count }, async (_, index) => {
              const { bytes } = await renderer.render(templateText('go', index + 1), {
                name: `t${index + 1}.tpl`,
                data,
              })
              return { path: join(folder, 'rendered', `t${index + 1}.conf`), content: bytes }
            }),
          )
          const { changed } = await copy(session, files)
          return changed.length === 0 ? unchanged() : { changed: changed.length }
        },
      }),
    ]),
  ],
})
