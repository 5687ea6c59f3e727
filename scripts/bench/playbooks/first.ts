// One step that writes down when it ran.

import { play, playbook, raw, step } from 'rekey'
import { z } from 'zod'
import { firstCommand } from '../jobs.ts'
import { jobOf } from './job.ts'

const { log } = jobOf('first')

export default playbook({
  name: 'bench-first',
  summary: 'Writes down when it ran',
  vars: z.object({}),
  plays: [
    play('First', { hosts: 'all' }, [
      step('Write it down', {
        run: async ({ $ }) => {
          await $`${raw(firstCommand(log))}`
        },
      }),
    ]),
  ],
})
