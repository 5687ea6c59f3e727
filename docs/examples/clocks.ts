// Are the clocks of all machines near enough for new certificates? Out of pieces of rotate-ca.
import { play, playbook, type StepContext, step } from 'rekey'
import { preflight } from 'rekey/rotation'
import { z } from 'zod'

const vars = z.object({
  ...preflight.variables, // clock_tolerance
})

type Context = StepContext<z.output<typeof vars>>

export default playbook({
  name: 'clocks',
  summary: 'Compare the clocks of all machines',
  vars,
  plays: [
    play<Context>('Clocks', { hosts: 'masters:nodes' }, [
      step('Read the clock', preflight.readClock),
      step('Compare the clocks', preflight.compareClocks),
    ]),
  ],
})
