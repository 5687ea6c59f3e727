// What is replaced of a text: by few values or by very many, which are looked for in another way.
import test from 'ava'
import { redactor } from '../../lib/output/redaction.ts'

for (const [title, others] of [
  ['few', 0],
  ['many', 5000],
] as const) {
  test.serial(`among ${title} values every one that occurs is replaced, the longest first`, t => {
    const redact = redactor()
    for (let index = 0; index < others; index++) redact.add(`never-said-${index}-of-them`)
    redact.add('password')
    redact.add('password-of-the-vault')
    redact.add(`${'line'.repeat(3)}\nsecond-line`)
    t.is(redact.text('a password-of-the-vault, a password'), 'a «redacted», a «redacted»')
    t.is(redact.text('second-line'), '«redacted»')
    t.is(redact.text('prefixpasswordsuffix'), 'prefix«redacted»suffix')
    t.is(redact.text('passwor'), 'passwor')
    t.is(redact.text(`key: ${Buffer.from('password-of-the-vault').toString('base64')}.`), 'key: «redacted».')
    // Known from now on, also after texts were looked at.
    t.is(redact.text('told-only-later'), 'told-only-later')
    redact.add('told-only-later')
    t.is(redact.text('told-only-later'), '«redacted»')
    t.is(redact.marked('x password y'), `x ${redact.fingerprint('password')} y`)
    t.deepEqual(redact.deep({ a: ['password', 1], b: { c: 'the password' } }), {
      a: ['«redacted»', 1],
      b: { c: 'the «redacted»' },
    })
  })
}
