// Reads what machines are made of.

import { play, playbook, raw, step } from 'rekey'
import { z } from 'zod'
import { factsCommand } from '../jobs.ts'

export default playbook({
  name: 'bench-facts',
  summary: 'Reads what machines are made of',
  vars: z.object({}),
  plays: [
    play('Facts', { hosts: 'all' }, [
      step('Read facts', {
        readOnly: true,
        run: async ({ $ }) => {
          const { stdout } = await $({ quiet: true })`${raw(factsCommand)}`
          const [kernel, machine, system, processors, memory, addresses, ...mounts] = stdout.trim().split('\n')
          return { kernel, machine, system, processors: Number(processors), memory, addresses, mounts }
        },
      }),
    ]),
  ],
})
