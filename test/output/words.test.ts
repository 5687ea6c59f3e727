// How words of the views are set.
import test from 'ava'
import { table } from '../../lib/output/words.ts'

test('cells of a table stand below each other, and no line ends in blanks', t => {
  t.deepEqual(
    table([
      ['', 'WHO', 'WHAT'],
      ['✔', 'a longer one', 'it'],
      ['✖', 'm1', ''],
    ]),
    ['   WHO           WHAT', '✔  a longer one  it', '✖  m1'],
  )
})
