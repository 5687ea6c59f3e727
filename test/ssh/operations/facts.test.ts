// `facts` on machines of several distributions, each a namespace of its own: field by field what ansible-core's `setup` finds there.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { Connection } from '../../../lib/connection/connection.ts'
import { connectLocal } from '../../../lib/connection/local.ts'
import { quote } from '../../../lib/connection/shell.ts'
import { type Facts, facts } from '../../../lib/operations/system/facts.ts'
import { localSettings, trial } from '../../operations/_operation.ts'
import { canHaveUsers, makeUsers } from '../../operations/_users.ts'

const real = canHaveUsers ? test.serial : test.skip
const file = join(import.meta.dirname, '..', '..', 'operations', 'facts.json')

/** How rekey writes the name of a fact. */
const spelled = (name: string) => name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())

real('facts are those of ansible-core, distribution by distribution', async t => {
  const { network, cases } = JSON.parse(readFileSync(file, 'utf8')) as {
    network: string[]
    cases: {
      about: string
      etc: Record<string, string>
      ansible: Record<string, unknown>
      rekey?: Record<string, unknown>
    }[]
  }
  t.true(cases.length >= 10)
  for (const { about, etc, ansible, rekey } of cases) {
    const machine = await makeUsers({ etc, network: network.join('\n') })
    try {
      const here = connectLocal('h1', localSettings)
      const there: Connection = {
        ...here,
        lost: undefined,
        spawn: (line, options) =>
          here.spawn(`exec ${machine.enter.map(quote).join(' ')} sh -c ${quote(line)}`, options),
      }
      const found = (await trial(there).run(facts())).value as Facts & Record<string, unknown>
      for (const [name, value] of Object.entries({ ...ansible, ...rekey })) {
        if (name === 'why') continue
        t.deepEqual(found[spelled(name)], value, `${about}: ${name}`)
      }
    } finally {
      machine.close()
    }
  }
})
