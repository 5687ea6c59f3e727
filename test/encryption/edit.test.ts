// Edits of an EncryptionConfiguration: nothing but what is meant changes, and each is what the next stage of a rotation needs.
import test from 'ava'
import fc from 'fast-check'
import { dump } from 'js-yaml'
import { secret } from '../../lib/connection/shell.ts'
import { nameOf, readConfiguration } from '../../lib/encryption/configuration.ts'
import { addReader, drop, promote } from '../../lib/encryption/edit.ts'
import { keyedProviders } from '../../lib/encryption/stored.ts'
import { base64Key, configuration } from './_configuration.ts'

const [one, two, three] = [base64Key(), base64Key(), base64Key()]
const all = () => true
const names = (text: string) => readConfiguration(text, 'f').rules.map(({ providers }) => providers.map(nameOf))

const commented = `# kept by hand; see the runbook
kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources:
      - secrets   # and nothing else
    providers:
      - aescbc:
          keys:
            # since August
            - name: "key:1"
              secret: ${one}   # 32 bytes

      # lets plain values in
      - identity: {}
`

test('a key is added as the second, promoted, and the old one dropped; comments and spacing stay', t => {
  const added = addReader(commented, 'f', { kind: 'aescbc', name: 'key:2', secret: secret(two) }, all)
  t.is(
    added,
    commented.replace('# 32 bytes\n', `# 32 bytes\n            - name: key:2\n              secret: ${two}\n`),
  )
  const promoted = promote(added, 'f', { kind: 'aescbc', name: 'key:2' }, all)
  t.deepEqual(names(promoted), [['aescbc key:2, key:1', 'none']])
  t.regex(promoted, /keys:\n +- name: key:2\n +secret: .+\n +# since August\n +- name: "key:1"\n/)
  const dropped = drop(promoted, 'f', { kind: 'aescbc', name: 'key:1' }, all)
  t.is(
    dropped,
    commented.replace(
      / +# since August\n.*\n.*# 32 bytes\n/,
      `            - name: key:2\n              secret: ${two}\n`,
    ),
  )
})

test('another provider comes as one of its own, and the old provider goes with its last key', t => {
  const added = addReader(commented, 'f', { kind: 'secretbox', name: 'box', secret: secret(three) }, all)
  t.deepEqual(names(added), [['aescbc key:1', 'secretbox box', 'none']])
  const promoted = promote(added, 'f', { kind: 'secretbox', name: 'box' }, all)
  t.deepEqual(names(promoted), [['secretbox box', 'aescbc key:1', 'none']])
  const dropped = drop(promoted, 'f', { kind: 'aescbc', name: 'key:1' }, all)
  t.deepEqual(names(dropped), [['secretbox box', 'none']])
  t.regex(dropped, /# lets plain values in\n {6}- identity: \{\}\n$/)
})

test('encryption is begun from identity, and given up again', t => {
  const plain = configuration('secrets', '      - identity: {}\n')
  const begun = promote(
    addReader(plain, 'f', { kind: 'aescbc', name: 'k', secret: secret(one) }, all),
    'f',
    { kind: 'aescbc', name: 'k' },
    all,
  )
  t.deepEqual(names(begun), [['aescbc k', 'none']])
  const only = drop(begun, 'f', { kind: 'identity' }, all)
  t.deepEqual(names(only), [['aescbc k']])
  const back = promote(addReader(only, 'f', { kind: 'identity' }, all), 'f', { kind: 'identity' }, all)
  t.is(drop(back, 'f', { kind: 'aescbc', name: 'k' }, all), plain)
})

test('only the rules that are meant are edited, and what is done already stays', t => {
  const rule = (name: string) =>
    `    providers:\n      - aesgcm:\n          keys:\n          - name: ${name}\n            secret: ${two}\n`
  const text = `${configuration('secrets', rule('a').replace('    providers:\n', ''))}  - resources: [configmaps]\n${rule('b')}`
  const key = { kind: 'aesgcm', name: 'c', secret: secret(three) } as const
  const added = addReader(text, 'f', key, ({ resources }) => resources.includes('configmaps'))
  t.deepEqual(names(added), [['aesgcm a'], ['aesgcm b, c']])
  const everywhere = addReader(added, 'f', key, all)
  t.deepEqual(names(everywhere), [['aesgcm a, c'], ['aesgcm b, c']])
  t.is(addReader(everywhere, 'f', key, all), everywhere)
  t.is(
    promote(everywhere, 'f', { kind: 'aesgcm', name: 'b' }, one => one.resources.includes('configmaps')),
    everywhere,
  )
  t.is(drop(text, 'f', { kind: 'aesgcm', name: 'gone' }, all), text)
})

test('a file in JSON, as k3s writes it, stays one', t => {
  const value = (providers: object[]) => ({
    ...{ kind: 'EncryptionConfiguration', apiVersion: 'apiserver.config.k8s.io/v1' },
    resources: [{ resources: ['secrets'], providers }],
  })
  const k = (name: string, secret: string) => ({ name, secret })
  const before = value([{ aescbc: { keys: [k('a', one)] } }, { identity: {} }])
  const after = value([{ aescbc: { keys: [k('a', one), k('b', two)] } }, { identity: {} }])
  for (const indent of [undefined, 2])
    t.is(
      addReader(
        `${JSON.stringify(before, null, indent)}\n`,
        'f',
        { kind: 'aescbc', name: 'b', secret: secret(two) },
        all,
      ),
      `${JSON.stringify(after, null, indent)}\n`,
    )
})

test('what would lose values or can’t be done is refused, with its place', t => {
  const key = { kind: 'aescbc', name: 'key:1' } as const
  const code = (work: () => string) => t.throws(work) as Error & { code: string }
  t.like(
    code(() => drop(commented, 'm1:f', key, all)),
    { code: 'encryption.drops-writer' },
  )
  t.like(
    code(() => promote(commented, 'm1:f', { kind: 'aescbc', name: 'no' }, all)),
    { code: 'encryption.no-such-key' },
  )
  const taken = code(() => addReader(commented, 'm1:f', { ...key, secret: secret(two) }, all))
  t.like(taken, { code: 'encryption.name-taken' })
  t.regex(taken.message, /^m1:f:11: /)
  const inline = configuration('secrets', `      - aescbc: {keys: [{name: a, secret: ${one}}]}\n`)
  const refused = code(() => addReader(inline, 'm1:f', { kind: 'aescbc', name: 'b', secret: secret(two) }, all))
  t.like(refused, { code: 'yaml.not-editable' })
  t.regex(refused.message, /^m1:f:6: the list is written inline/)
  t.false(refused.message.includes(one))
})

const key = fc.record({
  kind: fc.constantFrom(...keyedProviders),
  name: fc.string({ unit: fc.constantFrom(...'ab-1:#\' "é'), minLength: 1, maxLength: 6 }),
})

test('any file is rotated to any new key and ends with it alone, its other lines as they were', t => {
  fc.assert(
    fc.property(
      fc.uniqueArray(key, { minLength: 1, maxLength: 4, selector: one => `${one.kind}:${one.name}` }),
      key,
      fc.constantFrom(1, 2, 4),
      fc.boolean(),
      (old, wanted, indent, tight) => {
        fc.pre(!old.some(one => one.kind === wanted.kind && one.name === wanted.name))
        const providers = old.map(({ kind, name }) => ({ [kind]: { keys: [{ name, secret: base64Key() }] } }))
        const value = {
          kind: 'EncryptionConfiguration',
          apiVersion: 'apiserver.config.k8s.io/v1',
          resources: [{ resources: ['secrets'], providers }],
        }
        const written = dump(value, { indent: Math.max(indent, 2), seqNoIndent: tight })
        const text = `# head\n${written}# tail\n`
        const next = addReader(text, 'f', { ...wanted, secret: secret(two) }, all)
        const lines = new Set(next.split('\n'))
        t.true(text.split('\n').every(line => lines.has(line)))
        let now = promote(next, 'f', wanted, all)
        for (const one of old) now = drop(now, 'f', one, all)
        t.deepEqual(names(now), [[`${wanted.kind} ${wanted.name}`]])
        t.regex(now, /^# head\n[\s\S]*# tail\n$/)
      },
    ),
    { numRuns: 40 },
  )
})
