// Random inventories through both programs: INVENTORIES=500 npm run test:ansible. Without that variable, nothing runs.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import test from 'ava'
import fc from 'fast-check'
import { RekeyError } from '../../../lib/errors.ts'
import { ansibleInstalled, startOracle } from '../../../scripts/update-ansible-core.ts'
import { readOutput, readYaml, rekeyInventory } from '../rekey-inventory.ts'
import { type RandomInventory, randomInventory } from './inventory.ts'
import { randomYaml } from './yaml.ts'

const runs = Number(process.env['INVENTORIES'] ?? 0)
const compared = runs > 0 && ansibleInstalled() ? test.serial : test.serial.skip

compared('rekey and ansible-inventory say the same of random inventories', async t => {
  t.timeout(30 * 60_000)
  const oracle = startOracle()
  let refusedByBoth = 0
  const property = fc.asyncProperty(randomInventory, async inventory => {
    const folder = write(inventory)
    try {
      const answer = await oracle.ask({ kind: 'inventory', args: [...inventory.args], cwd: folder })
      const refused = answer.code !== 0 || /Unable to parse|Failed to parse/.test(answer.stderr)
      let printed: string
      try {
        printed = await rekeyInventory(inventory.args, { cwd: folder })
      } catch (error) {
        // A limit that leaves nobody is an error here by design.
        if (error instanceof RekeyError && error.code.startsWith('inventory.limit-')) return
        // Ansible never looks into files of groups without hosts; rekey checks every file that it finds.
        if (
          error instanceof RekeyError &&
          /(group|host)_vars/.test(error.message) &&
          error.code.startsWith('inventory.yaml')
        )
          return
        if (!(error instanceof RekeyError) || !refused) throw error
        refusedByBoth++
        return
      }
      if (refused)
        throw new Error(
          `Ansible refuses it: ${answer.stderr
            .split('\n')
            .filter(line => /fail|error/i.test(line))
            .join('\n')}`,
        )
      const [ours, theirs] = [printed, answer.stdout].map(output => readOutput(output, inventory.args))
      if (!isDeepStrictEqual(ours, theirs)) throw new Error(`rekey:\n${printed}\nansible-inventory:\n${answer.stdout}`)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
  const seed = process.env['SEED'] === undefined ? undefined : Number(process.env['SEED'])
  const result = await fc.check(property, {
    numRuns: runs,
    seed,
    endOnFailure: false,
    interruptAfterTimeLimit: 25 * 60_000,
  })
  oracle.close()
  t.log(`${result.numRuns} inventories, ${refusedByBoth} of them refused by both, seed ${result.seed}`)
  if (result.failed) {
    const [shrunk] = result.counterexample!
    for (const [name, text] of Object.entries(shrunk.files)) t.log(`--- ${name}\n${text}`)
    t.log(shrunk.args.join(' '))
    t.fail(
      `${result.errorInstance instanceof Error ? result.errorInstance.message : result.errorInstance} (seed ${result.seed})`,
    )
  }
  t.pass()
})

compared('rekey and Ansible read the same in random YAML, or rekey refuses it', async t => {
  t.timeout(30 * 60_000)
  const oracle = startOracle()
  const seed = process.env['SEED'] === undefined ? Date.now() % 2 ** 31 : Number(process.env['SEED'])
  let [read, refused] = [0, 0]
  for (let round = 0; round < Math.ceil(runs / 25); round++) {
    const texts = fc.sample(randomYaml, { numRuns: 1000, seed: seed + round })
    const lines = (await oracle.ask({ kind: 'yaml', texts })).stdout.trim().split('\n')
    for (const [index, text] of texts.entries()) {
      const [theirs, ours] = [JSON.parse(lines[index]!) as object, readYaml(text)]
      if ('refused' in ours) refused++
      else {
        read++
        if (!isDeepStrictEqual(ours, theirs)) {
          t.log(JSON.stringify({ text, ours, theirs }))
          t.fail(`read differently (seed ${seed + round})`)
        }
      }
    }
  }
  oracle.close()
  t.log(`${read} texts read alike, ${refused} refused, seed ${seed}`)
  t.true(read > refused / 2)
})

function write({ files }: RandomInventory): string {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-random-'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}
