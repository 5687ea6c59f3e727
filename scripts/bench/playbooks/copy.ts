// Copies a folder's files to every host.
import { join } from 'node:path'
import { copy, play, playbook, step, unchanged } from 'rekey'
import { z } from 'zod'
import { jobOf } from './job.ts'

const { source, files } = jobOf('copy')

export default playbook({
  name: 'bench-copy',
  summary: 'Copies files',
  vars: z.object({}),
  plays: [
    play('Copy', { hosts: 'all' }, [
      step('Copy the files', {
        run: async session => {
          const folder = String(session.host.vars['bench_folder'])
          const { changed } = await copy(
            session,
            files.map(name => ({ path: join(folder, 'files', name), source: join(source, name) })),
          )
          return changed.length === 0 ? unchanged() : { changed: changed.length }
        },
      }),
    ]),
  ],
})
