// Every inventory in cases/: rekey prints what ansible-inventory printed for it (npm run test:update-ansible writes that).
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { readOutput, rekeyInventory } from './rekey-inventory.ts'

const cases = join(import.meta.dirname, 'cases')

interface Case {
  readonly about: string
  readonly args: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
}

const names = readdirSync(cases)

test.serial('there are at least 60 inventories to compare', t => {
  t.true(names.length >= 60)
})

for (const name of names) {
  const folder = join(cases, name)
  const { about, args, environment = {} } = JSON.parse(readFileSync(join(folder, 'case.json'), 'utf8')) as Case
  test.serial(`${name}: ${about}`, async t => {
    const expected = readFileSync(join(folder, 'expected'), 'utf8')
    const printed = await rekeyInventory(args, { cwd: folder, environment })
    t.deepEqual(readOutput(printed, args), readOutput(expected, args))
  })
}
