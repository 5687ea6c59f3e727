// A playbook's variables: what `-e` sets must be known however it is written, and its text becomes the number that is asked for.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { z } from 'zod'
import { playbook, Secret, secretText } from '../../lib/index.ts'
import { loadInventory } from '../../lib/inventory/index.ts'
import { redactor } from '../../lib/output/redaction.ts'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { commandLineOnly, resolveVariables } from '../../lib/playbook/variables.ts'
import { temporaryFolder } from '../_temporary.ts'

const folder = temporaryFolder('variables')
writeFileSync(join(folder, 'known.yml'), 'port: 5\n')
writeFileSync(join(folder, 'unknown.json'), '{"zzz": 1}')
writeFileSync(join(folder, 'confirming.ini'), '[all]\nh1\n[all:vars]\nconfirm=prod\n')

const numbers = z.object({ port: z.number().default(1), on: z.boolean().default(false), name: z.string().default('x') })

async function resolve(extraVars: string[], vars: z.ZodType = numbers): Promise<unknown> {
  const inventory = await loadInventory({ sources: ['h1,h2'], extraVars, cwd: folder })
  const made = playbook({ name: 'x', summary: 'x', vars: vars as never, plays: [] })
  return resolveVariables(made as never, inventory.hosts, inventory.extraVariables, () => false)
}

test('a variable that nobody knows is refused, however -e is written', async t => {
  for (const given of [
    'b=1',
    '{"b": 1}',
    '{b: 1}',
    'port=1 b=2',
    '{port: 1, b: 2}',

    '@unknown.json',
    'bänner=1',
    'x.y=1',
  ]) {
    await t.throwsAsync(resolve([given]), { message: /^-e \S+: x has no such variable/ }, given)
  }
  t.deepEqual(await resolve(['@known.yml', '{name: y}']), { port: 5, on: false, name: 'y' })
})

test('text of -e becomes the number or the truth value that the schema asks for, and nothing else does', async t => {
  t.deepEqual(await resolve(['port=9090', 'on=yes', 'name=12']), { port: 9090, on: true, name: '12' })
  t.deepEqual(await resolve(['port=-1.5e3 on=False']), { port: -1500, on: false, name: 'x' })
  t.deepEqual(await resolve(['port=7'], z.object({ port: z.int().max(9).optional() })), { port: 7 })
  for (const word of ['90x', '0x10', "''", 'Infinity', 'yes']) {
    await t.throwsAsync(resolve([`port=${word}`]), { message: /port: .*expected number, received string/ }, word)
  }
  const error = await t.throwsAsync(resolve(['on=1']))
  t.is((error as { hint?: string }).hint, 'What is no text is given as YAML or JSON: -e \'{"name": …}\'.')
  await t.throwsAsync(resolve(['port=10'], z.object({ port: z.int().max(9) })), { message: /port: Too big/ })
})

test('a schema may take its time, and what it throws is one error', async t => {
  t.deepEqual(await resolve(['a=x'], z.object({ a: z.string().refine(async () => true) })), { a: 'x' })
  const error = await t.throwsAsync(
    resolve(
      [],
      z.object({
        a: z
          .string()
          .default('x')
          .transform(() => {
            throw new Error('in transform')
          }),
      }),
    ),
    { message: "the variables of x can't be checked: in transform" },
  )
  t.regex((error as { hint?: string }).hint ?? '', /^Its schema throws, at .*variables\.test\.ts:\d+\.$/)
})

test('what the schema calls secret comes as one, and is replaced from then on, also where other variables are wrong', async t => {
  const vars = z.object({
    token: secretText(),
    word: secretText(z.string().min(6)).prefault('of-the-playbook'),
    n: z.number().default(1),
  })
  const values = (await resolve(['token=given-with-e'], vars)) as Record<string, Secret>
  t.true(values['token'] instanceof Secret)
  t.is(values['token']?.reveal(), 'given-with-e')
  t.is(values['word']?.reveal(), 'of-the-playbook')
  t.is(redactor().text('given-with-e, of-the-playbook'), '«redacted», «redacted»')
  await t.throwsAsync(resolve(['token=told-all-the-same', 'n=x'], vars), { message: /n: / })
  t.is(redactor().text('told-all-the-same'), '«redacted»')
  const short = await t.throwsAsync(resolve(['token=xy', 'word=tiny'], vars))
  t.regex(short?.message ?? '', /token: a secret of fewer than 3 characters.*\n +word: Too small/)
  t.notRegex(short?.message ?? '', /xy|tiny/)
})

test('what counts from -e alone is refused by its name where it stands in an inventory, and nowhere else', async t => {
  const source = join(folder, 'confirming.ini')
  const made = playbook({
    ...{ name: 'x', summary: 'x', plays: [] },
    vars: z.object({ confirm: commandLineOnly(z.string().optional()) }),
  })
  const resolved = async (extraVars: string[], sources = [source]) => {
    const inventory = await loadInventory({ sources, extraVars, cwd: folder })
    return resolveVariables(made as never, inventory.hosts, inventory.extraVariables, () => true)
  }
  await t.throwsAsync(resolved([]), {
    code: 'playbook.command-line-only',
    message: /^confirm stands in the inventory/,
  })
  t.deepEqual(await resolved(['confirm=other']), { confirm: 'other' })
  t.deepEqual(await resolved([], ['h1,']), {})
})

test('the name that confirms a procedure is such a variable in each that takes one', async t => {
  for (const name of ['restore', 'recreate-credentials', 'recreate-kops-credentials']) {
    const { playbook } = await loadPlaybook(join(import.meta.dirname, `../../playbooks/${name}.ts`))
    const inventory = await loadInventory({ sources: [join(folder, 'confirming.ini')], cwd: folder })
    await t.throwsAsync(
      resolveVariables(playbook, inventory.hosts, [], () => true),
      { code: 'playbook.command-line-only' },
      name,
    )
  }
})
