// What a playbook may not be: each mistake is told when it is loaded, with its place, and before anything is connected to.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { z } from 'zod'
import { RekeyError } from '../../lib/errors.ts'
import { block, play, playbook, step } from '../../lib/index.ts'
import { checkPlaybook } from '../../lib/playbook/check.ts'
import { loadPlaybook } from '../../lib/playbook/load.ts'
import { checkShape, reportSections } from '../../lib/playbook/shape.ts'
import { tries } from '../_fuzz.ts'
import { temporaryFolder } from '../_temporary.ts'

const run = () => {}
/** A playbook of one step with these options beside `run`, which no type keeps from being wrong. */
const withStep = (options: object, title: unknown = 'Do it') =>
  withItems([step(title as string, { run, ...options } as never)])
const withItems = (items: unknown, options: object = {}) =>
  withPlay(play('First', { hosts: 'all', ...options } as never, items as never))
const withPlay = (one: unknown, options: object = {}) =>
  playbook({ name: 'x', summary: 'x', vars: z.object({}), plays: [one], ...options } as never)

function problem(what: unknown): string {
  try {
    checkShape(what, 'x.ts')
    checkPlaybook(what, 'x.ts')
  } catch (error) {
    if (!(error instanceof RekeyError)) throw error
    return [error.message, error.hint].filter(Boolean).join('\n')
  }
  return ''
}

/** A mistake, and how it is told. */
const mistakes: readonly (readonly [what: unknown, told: RegExp])[] = [
  [
    withStep({ when: false }),
    /^x\.ts: play 1 'First', step 1 'Do it': when must be a function, not false\nWrite a function of the context, ctx => …/,
  ],
  [withStep({ when: 'role == "canary"' }), /step 1 'Do it': when must be a function, not 'role == "canary"'\n/],
  [withStep({ check: true }), /check must be a function, not true/],
  [withStep({ run: 'echo hi' }), /step 1 'Do it': run must be a function, not 'echo hi'/],
  [withStep({ run: async function* () {} }), /run must be a function, not \[AsyncGeneratorFunction/],
  [withItems([{ id: 'a', title: 'A' }]), /step 1 'A': run is missing/],
  [withStep({ rolback: run }), /a step has no option 'rolback'; did you mean 'rollback'\?/],
  [withStep({ ignore_errors: true }), /a step has no option 'ignore_errors'; did you mean 'ignoreErrors'\?/],
  [withStep({ register: 'r' }), /a step has no option 'register'\nWhat run returns is known by the id/],
  [withStep({ becomeUser: 'r' }), /a step has no option 'becomeUser'\nAs whom commands are run, the inventory says/],
  [
    withStep({ no_log: true, loop: [1], environment: {} }),
    /^x\.ts has 3 mistakes:\n( {2}play 1 'First', step 1 'Do it': a step has no option '.*'\. .*\n?){3}$/,
  ],
  [withStep({ zzz: 1 }), /a step has no option 'zzz'\nIts options are: id, title, readOnly/],
  [withStep({ readOnly: 'yes' }), /readOnly must be true or false, not 'yes'/],
  [withStep({ tags: 'x' }), /tags must be a list of texts without commas, not 'x'\nWrite tags: \['one', 'another'\]/],
  [withStep({ tags: [5] }), /tags must be a list/],
  [withStep({ tags: ['a,b'] }), /tags must be a list of texts without commas/],
  [withStep({ retries: -1 }), /retries must be a whole number from 0, not -1/],
  [withStep({ retries: 1.5 }), /retries must be a whole number/],
  [withStep({ delay: 1e12 }), /delay must be milliseconds, from 0 to 2147483647 \(24 days\), not 1000000000000/],
  [withStep({ delay: Number.NaN }), /delay must be milliseconds/],
  [withStep({ delegateTo: 5 }), /delegateTo must be the name of a host, or a function that finds it, not 5/],
  [withStep({ notify: {} }), /notify must be the id of a handler, or a list of ids, not \{\}/],
  [withStep({ irreversible: true }), /irreversible must be a text, not true/],
  [withStep({ id: '../../x' }), /id must be letters, digits, dots, dashes and underscores, .*, not '\.\.\/\.\.\/x'/],
  [withStep({ id: '.' }), /id must be letters/],
  [withStep({ id: 5 }), /id must be letters.*, not 5/],
  [withStep({}, 'x'.repeat(300)), /title must be a text of one line, 200 letters at most/],
  [withStep({}, 'x'.repeat(150)), /id must be .*100 bytes at most.*\nWithout an id it is made of/],
  [withStep({}, '!!!'), /id must be .*, not ''\nWithout an id it is made of/],
  [withStep({}, 'two\nlines'), /title must be a text of one line/],
  [withStep({}, 'bell\x07'), /title must be a text of one line/],
  [withStep({}, 5), /title must be a text of one line.*, not 5/],
  [withItems([step(undefined as never, { run })]), /step 1: title is missing/],
  [withItems([null]), /play 1 'First', step 1: it must be a step, not null\nMake it with step\(…\)\./],
  [withItems([false && 1, step('b', { run })]), /step 1: it must be a step, not false/],
  [
    withItems([{}]),
    /^x\.ts has 3 mistakes:\n {2}play 1 'First', step 1: id is missing.*\n {2}.*title is missing\n {2}.*run is missing$/,
  ],
  [withItems(undefined), /play 1 'First': steps is missing/],
  [withItems('a'), /play 1 'First': steps must be a list, not 'a'/],
  [
    withItems([block('B', { when: true } as never, [])]),
    /play 1 'First', block 1 'B': when must be a function, not true/,
  ],
  [
    withItems([block('B', { rescue: [step('a', { run, oops: 1 } as never)] }, [])]),
    /play 1 'First', block 1 'B', rescue step 1 'a': a step has no option 'oops'/,
  ],
  [
    withItems([block('B', {}, [block('C', {}, [step('a', {} as never)])])]),
    /block 1 'B', block 1 'C', step 1 'a': run is missing/,
  ],
  [withItems([block('B', { delegateTo: 'x' } as never, [])]), /a block has no option 'delegateTo'/],
  [withItems([], { handlers: [block('B', {}, [])] }), /handler 1 'B': /],
  [
    withItems([], { handlers: [step('h', { run, until: 1 } as never)] }),
    /handler 1 'h': until must be a function, not 1/,
  ],
  [withItems([], { rollback: [step('r', {} as never)] }), /rollback step 1 'r': run is missing/],
  [
    withItems([], { hosts: ['web', 'db'] }),
    /play 1 'First': hosts must be a pattern of hosts in one text, not \[ 'web', 'db' \]\nWrite hosts: 'masters:nodes'/,
  ],
  [withItems([], { hosts: undefined }), /hosts is missing/],
  [withItems([], { become: true }), /a play has no option 'become'\nAs whom commands are run/],
  [withItems([], { max_fail_percentage: 100 }), /did you mean 'maxFailPercentage'\?/],
  [withItems([], { runOnce: true }), /a play has no option 'runOnce'\nrunOnce is an option of steps/],
  [withItems([], { maxFailPercentage: 101 }), /maxFailPercentage must be a percentage, from 0 to 100, not 101/],
  [withItems([], { serial: 0 }), /serial must be a number of hosts from 1, .*, not 0\nWrite 1, '30%'/],
  ...[0.5, -1, '0%', 'x%', '5', [1, 'all']].map(
    serial =>
      [withItems([], { serial }), /serial must be a number of hosts from 1, a percentage above 0, or a list/] as const,
  ),
  [withItems([], { serial: Number.NaN }), /serial must be .*, not NaN/],
  [withItems([], { serial: [1, 'x%'] }), /serial must be .*, not \[ 1, 'x%' \]/],
  [withItems([], { strategy: 'fre' }), /strategy must be linear or free, not 'fre'/],
  [withItems([], { order: 'random' }), /order must be inventory, .* or shuffle, not 'random'/],
  [
    withItems([step('a', { run }), step('a', { run })]),
    /two steps have the id 'a': 'a' in play 1 'First', and 'a' in play 1 'First'/,
  ],
  [withPlay(null), /play 1: it must be a play, not null\nMake it with play\(…\)/],
  [withPlay({}), /^x\.ts has 3 mistakes:\n {2}play 1: title is missing/],
  [withPlay(play('P', [] as never, undefined as never)), /hosts is missing/],
  [withPlay(undefined, { plays: [] }), /plays must be a list of plays, one at least, not \[\]/],
  [withPlay(undefined, { plays: undefined }), /plays is missing/],
  [
    withPlay(play('P', { hosts: 'all' }, []), { name: '../../x' }),
    /^x\.ts: name must be letters, .*, not '\.\.\/\.\.\/x'/,
  ],
  [withPlay(play('P', { hosts: 'all' }, []), { name: '' }), /name must be letters/],
  [withPlay(play('P', { hosts: 'all' }, []), { name: 'a\nb c' }), /name must be letters/],
  [withPlay(play('P', { hosts: 'all' }, []), { name: 'ä'.repeat(51) }), /name must be .* 100 bytes at most/],
  [
    withPlay(play('P', { hosts: 'all' }, []), { vars: {} }),
    /vars must be a schema of zod 4 for an object, not \{\}\nWrite vars: z\.object/,
  ],
  [withPlay(play('P', { hosts: 'all' }, []), { vars: z.string() }), /vars must be a schema/],
  [withPlay(play('P', { hosts: 'all' }, []), { services: {} }), /services must be a function, not \{\}/],
  [
    withPlay(play('P', { hosts: 'all' }, []), { repots: run }),
    /a playbook has no option 'repots'; did you mean 'report'\?/,
  ],
  [5, /^x\.ts: it must be a playbook, not 5/],
]

test('each mistake in a playbook is one error with its place', t => {
  for (const [what, told] of mistakes) {
    t.regex(problem(what), told)
  }
})

test('what a playbook may say is let through', t => {
  const all = {
    tags: ['a', 'bc'],
    when: () => true,
    ignoreErrors: true,
    ignoreUnreachable: false,
    anyErrorsFatal: undefined,
  }
  const whole = step('Schritt für Schritt', {
    ...{
      ...all,
      id: 'schritt_1.a:b-c',
      readOnly: true,
      remember: true,
      together: true,
      runOnce: true,
      retries: 0,
      delay: 2 ** 31 - 1,
    },
    ...{
      delegateTo: () => 'x',
      check: () => true,
      plan: () => 'x',
      run,
      verify: run,
      until: () => true,
      notify: ['h'],
    },
    ...{ rollback: run, irreversible: 'x' },
  })
  const one = play(
    'P',
    {
      ...{ hosts: 'a:b', serial: [1, '30%'], strategy: 'linear', order: 'shuffle', maxFailPercentage: 0, tags: [] },
      ...{ handlers: [step('h', { run })], forceHandlers: true, rollback: [step('r', { run })], ignoreErrors: true },
    },
    [block('B', { ...all, rescue: [step('c', { run })], always: [block('C', {}, [step('d', { run })])] }, [whole])],
  )
  const vars = z.object({ a: z.string() }).transform(value => ({ ...value, b: 1 }))
  t.is(
    problem(playbook({ name: 'größe-1.2', summary: 'x', vars, services: () => ({}), plays: [one], report: () => [] })),
    '',
  )
})

test('what is an argument of play, block and step can not be an option, too', t => {
  t.throws(() => play('P', { hosts: 'all', steps: [] } as never, []), {
    message: /play\(\) takes its steps as an argument/,
  })
  t.throws(() => block('B', { title: 'x' } as never, []), { message: /block\(\) takes its title as an argument/ })
  t.throws(() => step('S', { run, title: 'x' } as never), { message: /step\(\) takes its title as an argument/ })
})

test('whatever a file exports, it is a playbook or one error', t => {
  const leaf = fc.oneof(fc.anything(), fc.constant(run), fc.constant('all'), fc.constant(z.object({})))
  const named = (names: string[]) => fc.dictionary(fc.constantFrom(...names, '__proto__', 'extra'), leaf)
  const item = fc.oneof(leaf, named(['id', 'title', 'run', 'when', 'tags', 'steps', 'rescue', 'notify', 'undoneWith']))
  const steps = fc.oneof(leaf, fc.array(item))
  const one = fc.oneof(
    leaf,
    fc.record(
      { title: leaf, hosts: leaf, steps, handlers: steps, rollback: steps, serial: leaf },
      { requiredKeys: [] },
    ),
  )
  const whole = fc.record(
    { name: leaf, summary: leaf, vars: leaf, plays: fc.oneof(leaf, fc.array(one)) },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(fc.oneof(leaf, whole), what => typeof problem(what) === 'string'),
    tries(500),
  )
  t.pass()
})

const folder = temporaryFolder('shape')
let files = 0

/** The message and the hint with which a file of this text can not be loaded. */
async function loadError(text: string): Promise<string> {
  const file = join(folder, `p${++files}.ts`)
  writeFileSync(file, text)
  try {
    await loadPlaybook(file)
  } catch (error) {
    if (!(error instanceof RekeyError)) throw error
    return [error.message, error.hint].filter(Boolean).join('\n').replaceAll(folder, '')
  }
  return ''
}

test('what keeps a file from being loaded is told with its line, whatever was thrown', async t => {
  t.regex(await loadError('\nexport default { }}'), /^\/p\d+\.ts:2 can't be loaded: /)
  t.regex(await loadError("\n\nthrow new Error('boom')"), /^\/p\d+\.ts:3 can't be loaded: boom$/)
  t.regex(await loadError('throw null'), /can't be loaded: what was thrown is no error: null$/)
  t.regex(await loadError("throw 'a text'"), /can't be loaded: a text$/)
  t.regex(
    await loadError('throw Object.create(null)'),
    /can't be loaded: what was thrown is no error: \[Object: null prototype\] \{\}$/,
  )
  t.regex(await loadError('const e = new Error("x"); e.message = 5; throw e'), /can't be loaded: 5$/)
  t.regex(
    await loadError('throw new Proxy({}, { getPrototypeOf() { throw 1 } })'),
    /can't be loaded: what was thrown can not be looked at/,
  )
  t.regex(await loadError('export const x = 1'), /exports no playbook\nIt must say: export default playbook/)
  t.regex(await loadError('export default null'), /exports no playbook/)
  t.regex(await loadError("export default { name: 'x', plays: [null] }"), /^\/p\d+\.ts has 3 mistakes:\n/)
  t.regex(await loadError('\nthrow new Error()'), /^\/p\d+\.ts:2 can't be loaded: /)
})

test('a name that was not imported, or not from where it is, is told with the import', async t => {
  const z = "import { z } from 'zod'\n"
  t.regex(
    await loadError('export default playbook({})'),
    /: playbook is not defined\nWrite: import \{ playbook \} from 'rekey'$/,
  )
  t.regex(await loadError('export default z.object({})'), /Write: import \{ z \} from 'zod'$/)
  t.regex(await loadError('openCluster()'), /Write: import \{ openCluster \} from 'rekey\/kubernetes'$/)
  t.regex(
    await loadError(`${z}import { openCluster } from 'rekey'`),
    /named 'openCluster'\nWrite: import \{ openCluster \} from 'rekey\/kubernetes'$/,
  )
  t.regex(
    await loadError(`import { StepContext } from 'rekey'`),
    /named 'StepContext'\nWhere it is a type, write: import \{ type StepContext \} from 'rekey'$/,
  )
  t.regex(await loadError('nobodyHasThis()'), /: nobodyHasThis is not defined$/)
})

test('what is not as it must be is told with its line: that of the part, or of what holds it where another file made it', async t => {
  const head = "import { block, play, playbook, step } from 'rekey'\nimport { z } from 'zod'\n"
  writeFileSync(
    join(folder, 'helper.ts'),
    "import { step } from 'rekey'\n\n\n\n\nexport const made = step('Made', { when: 1, run() {} } as never)",
  )
  const lines = async (text: string) =>
    [...(await loadError(head + text)).matchAll(/(?:\.ts:|\(line )(\d+)/g)].map(one => one[1])
  t.deepEqual(
    await lines("export default playbook({ name: 'x', summary: 'x', plays: [play('P', { hosts: 'all' }, [])] })"),
    ['3'],
  )
  t.deepEqual(await lines("\nexport default { name: 'x', summary: 'x', plays: [play('P', { hosts: 'all' }, [])] }"), [
    '4',
  ])
  t.deepEqual(await lines("const x = { name: 'x', summary: 'x', plays: [] }\nexport { x as default }"), ['4', '4'])
  const mixed = `import { made } from './helper.ts'
export default playbook({ name: 'x', summary: 'x', vars: z.object({}), plays: [
  play('P', { hosts: 'all' }, [
    made,
    block('B', {}, [
      step('S', { wen: 1, run() {} }),
    ]),
  ]),
  play('Q', { hosts: 1 }, []),
] })`
  t.deepEqual(await lines(mixed), ['5', '8', '11'])
  const twice = mixed
    .replace('    made,\n', '')
    .replace("step('S', { wen: 1, run() {} })", "step('S', { run() {} }),\n step('S', { run() {} })")
  t.deepEqual(await lines(twice.replace('hosts: 1', "hosts: 'all'")), ['8'])
})

test('a playbook outside of the checkout imports rekey, zod and zx by name', async t => {
  const text = `
import { play, playbook, step, RekeyError } from 'rekey'
import { z } from 'zod'
import { quote } from 'zx/core'
export default playbook({ name: 'x', summary: String(RekeyError === globalThis.RekeyErrorOfTests) + typeof quote, vars: z.object({}), plays: [play('P', { hosts: 'all' }, [step('a', { run() {} })])] })`
  const file = join(folder, 'elsewhere.ts')
  writeFileSync(file, text)
  Object.assign(globalThis, { RekeyErrorOfTests: RekeyError })
  t.is((await loadPlaybook(file)).playbook.summary, 'truefunction')
})

test('a .ts file is a module wherever it lies, and zod is that of rekey though its folder has one', async t => {
  const text = `
import { play, playbook, step } from 'rekey'
import { z } from 'zod'
import { shared } from 'shared-steps/index.ts'
export default playbook({ name: 'x', summary: String(z === globalThis.zodOfTests), vars: z.object({}), plays: [play('P', { hosts: 'all' }, [shared])] })`
  const modules = join(folder, 'commonjs', 'node_modules')
  for (const name of ['zod', 'shared-steps']) mkdirSync(join(modules, name), { recursive: true })
  writeFileSync(join(folder, 'commonjs', 'package.json'), '{ "type": "commonjs" }')
  writeFileSync(join(modules, 'zod', 'index.js'), 'exports.z = {}')
  writeFileSync(
    join(modules, 'shared-steps', 'index.ts'),
    "import { step } from 'rekey'\nexport const shared = step('S', { run(): void {} })",
  )
  const file = join(folder, 'commonjs', 'x.ts')
  writeFileSync(file, text)
  Object.assign(globalThis, { zodOfTests: z })
  t.is((await loadPlaybook(file)).playbook.summary, 'true')
})

test('a report may have metrics, as Prometheus takes them', t => {
  const metric = { name: 'shop_orders:rate5m', help: 'Orders.', value: 0.5, labels: { shop: '' } }
  const section = { title: 'Shop', rows: [], metrics: [metric, { name: 'a', help: 'b', value: 0 }] }
  t.deepEqual(reportSections([section]), [section])
  for (const wrong of [
    1,
    [1],
    [{ ...metric, name: 'shop-orders' }],
    [{ ...metric, help: '' }],
    [{ ...metric, value: Number.NaN }],
    [{ ...metric, labels: { shop: 1 } }],
    [{ ...metric, labels: { 'a-b': '' } }],
    // rekey's own: the same series would come twice.
    [{ ...metric, labels: { playbook: 'x' } }],
  ])
    t.throws(() => reportSections([{ ...section, metrics: wrong }]), {
      instanceOf: RekeyError,
      message: /^the metrics of section 1 'Shop' must be a list of metrics, .* that Prometheus takes, not /,
    })
})

test('a report may have curves, and nothing else in their place', t => {
  const curve = {
    ...{ label: 'm1: reads', from: 0, every: 1_000, asked: [5], failed: [1], slowest: [9] },
    gaps: [{ from: 1, to: 2, failed: 1, reason: 'x' }],
  }
  const section = { title: 'API', rows: [], curves: [curve] }
  t.deepEqual(reportSections([section]), [section])
  t.deepEqual(reportSections([{ title: 'API', rows: [] }]), [{ title: 'API', rows: [] }])
  for (const wrong of [
    1,
    [1],
    [{ ...curve, asked: ['x'] }],
    [{ ...curve, gaps: [{}] }],
    [{ ...curve, every: Number.NaN }],
    [{ ...curve, every: 0 }],
    [{ ...curve, failed: [] }],
    [{ ...curve, ...{ asked: Array(6_000).fill(1), failed: Array(6_000).fill(0), slowest: undefined } }],
  ])
    t.throws(() => reportSections([{ ...section, curves: wrong }]), {
      instanceOf: RekeyError,
      message:
        /^the curves of section 1 'API' must be a list of curves, of 5000 pieces and gaps at most, as many in each list, not /,
    })
})
