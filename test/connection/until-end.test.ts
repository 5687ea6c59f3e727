// Where the output of one command ends in that of the shell it shares with others, however it is split on the way.
import test from 'ava'
import fc from 'fast-check'
import { untilEnd } from '../../lib/connection/commands/host-shell.ts'
import { tries } from '../_fuzz.ts'

const word = 'rekey-ends-1'

/** Bytes in which much looks like the beginning of the word. */
const text = fc
  .array(fc.oneof(fc.constantFrom('r', 'rekey', 'rekey-ends-', 'rekey-ends-2', '\n', '\0'), fc.string()), {
    maxLength: 20,
  })
  .map(pieces => pieces.join(''))
  .filter(joined => !joined.includes(word) && !`${joined}${word}`.slice(0, -1).includes(word))

test('what stands before the word is passed on byte by byte, what stands behind it is read, and what follows is dropped', async t => {
  const property = fc.asyncProperty(
    text,
    fc.nat(255),
    text,
    fc.array(fc.nat(400), { maxLength: 12 }),
    async (before, status, after, cuts) => {
      const whole = Buffer.from(`${before}${word} ${status}\n${after}`)
      const { take, found } = untilEnd(word)
      const at = [...new Set(cuts)].filter(cut => cut < whole.length).sort((a, b) => a - b)
      const passed = [0, ...at].map((from, index) => take(whole.subarray(from, at[index] ?? whole.length)))
      const joined = Buffer.concat(passed.filter(piece => piece !== undefined))
      return joined.equals(Buffer.from(before)) && (await found) === String(status)
    },
  )
  await fc.assert(property, tries(2_000))
  t.pass()
})

test('what can not be the beginning of the word is passed on at once', t => {
  const { take } = untilEnd(word)
  t.is(take(Buffer.from('a line'))?.toString(), 'a line')
  t.is(take(Buffer.from('and rek'))?.toString(), 'and ')
  t.is(take(Buffer.from('ord'))?.toString(), 'rekord')
})
