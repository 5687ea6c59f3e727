// Steps in lockstep that do next to nothing.

import { play, playbook, raw, step } from 'rekey'
import { z } from 'zod'
import { stepCommand } from '../jobs.ts'
import { jobOf } from './job.ts'

const job = jobOf('steps')

export default playbook({
  name: 'bench-steps',
  summary: 'Steps that do next to nothing',
  vars: z.object({}),
  plays: [
    play(
      'Steps',
      { hosts: 'all' },
      Array.from({ length: job.steps }, (_, index) =>
        step(`Step ${index + 1}`, {
          run: async ({ $ }) => {
            await $`${raw(stepCommand(index + 1, job, job.log))}`
          },
        }),
      ),
    ),
  ],
})
