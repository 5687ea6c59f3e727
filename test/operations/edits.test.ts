// What becomes of texts, by the cases that ansible-core answered: the contents alone. test:ssh does all of it on files.
import test from 'ava'
import { expandReplacement, pythonRegex } from '../../lib/inventory/python/python-regex.ts'
import { withBlock } from '../../lib/operations/edits/block-in-file.ts'
import { linesOf } from '../../lib/operations/edits/edited-text.ts'
import { withLine, withoutLine } from '../../lib/operations/edits/line-in-file.ts'
import { replaced } from '../../lib/operations/edits/replace-in-file.ts'
import { casesOf } from './_run-cases.ts'

const python = { pattern: pythonRegex, expand: expandReplacement }

const edits: Readonly<Record<string, (text: string, options: never) => string>> = {
  lineInFile: (text, options: Parameters<typeof withLine>[1]) =>
    (options.state === 'absent' ? withoutLine : withLine)(linesOf(text), options, python).join(''),
  blockInFile: (text, options: Parameters<typeof withBlock>[1]) => withBlock(text, options, python),
  replaceInFile: (text, options: Parameters<typeof replaced>[1]) => replaced(text, options, python),
}

for (const [name, edit] of Object.entries(edits)) {
  test(`${name}: contents as ansible-core makes them`, t => {
    let count = 0
    for (const { about, before, options, ansible, rekey } of casesOf(name).cases) {
      const expected = { ...ansible, ...rekey }
      const [is, shall] = [before?.['f']?.content, expected.after?.['f']?.content]
      if (is === undefined || shall === undefined || typeof expected.failed === 'string') continue
      const once = edit(is, options as never)
      t.is(once, shall, about)
      if (!expected.again) t.is(edit(once, options as never), once, `${about}: again`)
      count++
    }
    t.true(count >= 10)
  })
}

test('what RE2 has not is told with the way out, which is an expression of JavaScript’s', t => {
  const options = { path: '/f', regexp: '^(?!#)Port' }
  t.throws(() => replaced('Port 22\n', options, python), { message: /replaceInFile\(\{ regexp \}\): .* can't be used/ })
  const given = { path: '/f', regexp: /^(?!#)Port (?<number>\d+)$/, replace: 'Port \\g<number>2' }
  t.is(replaced('#Port 1\nPort 22\n', given, python), '#Port 1\nPort 222\n')
  t.is(withLine(['a 1\n', 'b 2\n'], { path: '/f', regexp: /^a \d$/, line: 'a 2' }, python).join(''), 'a 2\nb 2\n')
})
