// EncryptionConfiguration is read as an API server reads it, and what is wrong with one is said with its line.
import test from 'ava'
import { namedProviders, nameOf, providersOf, readConfiguration } from '../../lib/encryption/configuration.ts'
import { RekeyError } from '../../lib/errors.ts'
import { base64Key, configuration } from './_configuration.ts'

const error = (text: string): string => {
  try {
    readConfiguration(text, 'm1:/enc.yaml')
  } catch (thrown) {
    if (thrown instanceof RekeyError) return thrown.message
    throw thrown
  }
  return 'taken'
}

const aescbc = (name: string, secret = base64Key()) =>
  `      - aescbc:\n          keys:\n            - name: ${name}\n              secret: ${secret}\n`

test('resources, providers in their order and names of keys are read', t => {
  const plugin = `      - kms:\n          apiVersion: v2\n          name: vault\n          endpoint: unix:///run/kms.sock\n`
  const { rules, doubts } = readConfiguration(
    configuration('secrets, configmaps', `${plugin}${aescbc('aescbckey-2022-08-02T16:02:40Z')}      - identity: {}\n`),
    'f',
  )
  t.deepEqual(doubts, [])
  t.deepEqual(rules[0]!.resources, ['secrets', 'configmaps'])
  t.deepEqual(rules[0]!.providers.map(nameOf), ['kms v2 vault', 'aescbc aescbckey-2022-08-02T16:02:40Z', 'none'])
  t.deepEqual(
    rules[0]!.providers.map(({ line }) => line),
    [6, 10, 14],
  )
  t.deepEqual(namedProviders(rules), [
    { kind: 'kms', version: 'v2', name: 'vault' },
    { kind: 'aescbc', name: 'aescbckey-2022-08-02T16:02:40Z' },
  ])
  t.notRegex(JSON.stringify(rules), /[A-Za-z0-9+/]{40}/)
})

test('a file in JSON is read like one in YAML', t => {
  const text = JSON.stringify({
    ...{ kind: 'EncryptionConfiguration', apiVersion: 'apiserver.config.k8s.io/v1' },
    resources: [
      {
        resources: ['secrets'],
        providers: [{ aescbc: { keys: [{ name: 'k', secret: base64Key() }] } }, { identity: {} }],
      },
    ],
  })
  t.deepEqual(readConfiguration(text, 'f').rules[0]!.providers.map(nameOf), ['aescbc k', 'none'])
})

test('a resource is encrypted by the most exact rule that names it', t => {
  const key = (name: string) => `    providers:\n${aescbc(name)}`
  const text = `${configuration('secrets', aescbc('s'))}  - resources: ["*.apps"]\n${key('a')}  - resources: ["*.*"]\n${key('all')}`
  const read = readConfiguration(text, 'f')
  const by = (resource: string) => providersOf(read, resource).map(nameOf)
  t.deepEqual(by('secrets'), ['aescbc s'])
  t.deepEqual(by('deployments.apps'), ['aescbc a'])
  t.deepEqual(by('widgets.example.com'), ['aescbc all'])
  t.deepEqual(providersOf(readConfiguration(configuration('secrets', aescbc('s')), 'f'), 'configmaps'), [])
})

test('what an API server refuses is refused, with file and line', t => {
  const of = (providers: string) => error(configuration('secrets', providers))
  const short = Buffer.alloc(20).toString('base64')
  t.is(of(aescbc('k', short)), `m1:/enc.yaml:9: the key 'k' has 20 bytes; aescbc wants 16 or 24 or 32`)
  t.is(of(aescbc('k', '"***"')), `m1:/enc.yaml:9: the secret of the key 'k' is not base64`)
  t.is(of(aescbc('k', `${'A'.repeat(42)}B=`)), 'taken', 'bits that make no byte are not looked at')
  t.regex(of('      - secretbox:\n          keys: []\n'), /^m1:\/enc\.yaml:7: there must be a list of keys/)
  t.regex(of('      - identity:\n'), /^m1:\/enc\.yaml:6: a provider is exactly one of aescbc, .*"identity: \{\}"/)
  t.regex(of('      - identity: {}\n        aescbc: {}\n'), /exactly one of/)
  t.regex(of('      []\n'), /there must be a list of providers/)
  const plugin = (more: string) => of(`      - kms:\n          name: a\n          endpoint: unix:///a\n${more}`)
  t.regex(plugin('          apiVersion: v3\n'), /:9: apiVersion 'v3' is neither v1 nor v2/)
  t.regex(plugin('          apiVersion: v2\n          cachesize: 10\n'), /:10: a plugin of v2 has no cachesize/)
  t.regex(
    of('      - kms:\n          apiVersion: v2\n          name: a:b\n          endpoint: unix:///a\n'),
    /:8: the name 'a:b' has a colon/,
  )
  t.regex(of('      - kms:\n          name: a\n          endpoint: tcp://a\n'), /:8: 'tcp:\/\/a' is no socket/)
  const v2 = '      - kms:\n          apiVersion: v2\n          name: a\n          endpoint: unix:///a\n'
  t.regex(of(v2 + v2), /:10: the name 'a' is another plugin's already/)
  t.regex(
    error('kind: EncryptionConfig\napiVersion: v1\n'),
    /:1: kind 'EncryptionConfig', apiVersion 'v1' is no EncryptionConfiguration/,
  )
  t.is(error('kind: [\n  secret-word'), 'm1:/enc.yaml:2: this is not YAML')
  t.regex(error('- a\n'), /^m1:\/enc\.yaml:1: this is not an EncryptionConfiguration/)
})

test('a resource that *.* masks, one that overlaps, and one that is none are refused', t => {
  const providers = '    providers:\n      - identity: {}\n'
  const rules = (...names: string[]) =>
    error(
      `${configuration(names[0]!, '      - identity: {}\n')}${names
        .slice(1)
        .map(one => `  - resources: [${one}]\n${providers}`)
        .join('')}`,
    )
  t.regex(rules('"*.*"', 'secrets'), /:7: secrets is masked by the earlier \*\.\*/)
  t.regex(rules('"*.apps"', 'deployments.apps'), /deployments\.apps is masked by the earlier \*\.apps/)
  t.regex(rules('"*."', 'secrets'), /secrets is masked by the earlier \*/)
  t.is(rules('secrets', '"*.*"'), 'taken')
  t.regex(rules('secrets, "*."'), /overlap/)
  t.regex(rules('secrets, secrets'), /secrets is there twice/)
  t.regex(rules('"*.*", widgets.example.com'), /overlap/)
  t.regex(rules('events.events.k8s.io'), /is kept as "events"/)
  t.regex(rules('"*"'), /has no group/)
  t.regex(rules('Secrets'), /has capital letters/)
  t.regex(rules('"secrets.*"'), /only "\*\.\*"/)
})

test('what a server takes and a rotation must not is doubted: one name for two keys, a plugin of v1, a resource in two rules', t => {
  const same = base64Key()
  const doubts = (providers: string) => readConfiguration(configuration('secrets', providers), 'f').doubts
  t.deepEqual(doubts(aescbc('k', same)), [])
  t.deepEqual(doubts(aescbc('k') + aescbc('k')), [
    `f:12: aescbc has another key of the name 'k' in line 8: values of the two can't be told apart`,
  ])
  t.deepEqual(doubts(aescbc('k', same) + aescbc('k', same)), [])
  t.regex(
    doubts('      - kms:\n          name: a\n          endpoint: unix:///a\n')[0]!,
    /^f:6: the KMS plugin a is of v1/,
  )
  const twice = `${configuration('secrets', aescbc('k', same))}  - resources: [secrets]\n    providers:\n${aescbc('l')}`
  t.deepEqual(readConfiguration(twice, 'f').doubts, [
    'f: secrets is in several rules: it is written by the first of them',
  ])
})
