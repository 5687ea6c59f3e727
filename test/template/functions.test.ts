// Every function that consul-template has is offered and held to its bytes, or refused by its name.
import test from 'ava'
import { builtins } from '../../lib/template/builtins.ts'
import { templateFunctions } from '../../lib/template/functions.ts'
import { createRenderer } from '../../lib/template/render.ts'
import { readCases, readFunctionNames } from './_cases.ts'

/** Refused, for the reason that its message must give. */
const refused: [names: string, reason: RegExp][] = [
  [
    'byMeta byPort byTag caLeaf caRoots connect datacenters exportedServices key keyExists keyOrDefault ls node nodes ' +
      'partitions peerings safeLs safeTree service services tree',
    /what a Consul server answers/,
  ],
  ['nomadService nomadServices nomadVar nomadVarExists nomadVarList nomadVarListSafe', /what a Nomad server answers/],
  ['spew_dump spew_printf spew_sdump spew_sprintf', /prints secrets whole/],
  ['plugin', /may not run programs/],
  [
    'sprig_bcrypt sprig_encryptAES sprig_genCA sprig_genCAWithKey sprig_genPrivateKey sprig_genSelfSignedCert ' +
      'sprig_genSelfSignedCertWithKey sprig_genSignedCert sprig_genSignedCertWithKey sprig_htpasswd sprig_randInt sprig_shuffle',
    /something else at every rendering/,
  ],
]
const refusedNames = refused.flatMap(([names]) => names.split(' '))

/** No case can hold its bytes, since they depend on the clock: `render.test.ts` and the test below have them. */
const ofTheClock = ['sprig_ago', 'timestamp']

const renderer = createRenderer({ secrets: async () => undefined, now: () => new Date('2026-01-02T03:04:05Z') })

for (const [names, reason] of refused) {
  for (const name of names.split(' ')) {
    test.serial(`${name} is refused by name`, async t => {
      const error = await t.throwsAsync(renderer.render(`{{ ${name} "a" }}`, { name: 'a.tpl' }))
      t.true(error?.message.startsWith(`a.tpl:1:4: ${name} is refused: `), error?.message)
      t.regex(error!.message, reason)
    })
  }
}

test.serial('every function of consul-template is there, and no other', t => {
  const never = () => {
    throw new Error('is not called here')
  }
  const sources = { secret: never, list: never, file: never, pkiCert: never, write: never, interfaces: never }
  const offered = templateFunctions({ environment: {}, now: () => new Date(), ...sources })
  // The engine's own.
  const all = [...offered.keys(), 'executeTemplate']
  t.deepEqual(all.sort(), readFunctionNames())
})

test.serial('every function that is offered has a case with the bytes that consul-template wrote', t => {
  const templates = [...readCases().values()]
    .flat()
    .filter(one => one.refused === undefined)
    .map(one => one.template)
    .join('\n')
  const words = new Set(templates.match(/\w+/g))
  // There is nothing in a template that it could call.
  const without = ['call']
  const wanted = [...readFunctionNames(), ...builtins.keys()].filter(name => !refusedNames.includes(name))
  t.deepEqual(
    wanted.filter(name => !words.has(name) && !ofTheClock.includes(name)),
    without,
  )
})

test.serial('what depends on the clock', async t => {
  const source =
    '{{ timestamp }} {{ timestamp "2006" }} {{ timestamp "unix" }} {{ sprig_ago (sprig_toDate "2006-01-02" "2026-01-01") }} {{ sprig_ago 1767323000 }}'
  const { output } = await renderer.render(source, { name: 'a.tpl' })
  t.is(output, '2026-01-02T03:04:05Z 2026 1767323045 27h4m5s 45s')
})
