// Tags: the tasks that Ansible runs for --tags and --skip-tags (npm run test:update-ansible writes tags.json).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { isChosen } from '../../lib/run/select.ts'

interface Answers {
  /** The tags of the tasks that Ansible was asked about. */
  readonly own: string[][]
  readonly rows: { readonly tags: string[]; readonly skipTags: string[]; readonly chosen: boolean[] }[]
}
const { own, rows } = JSON.parse(readFileSync(join(import.meta.dirname, 'fixtures', 'tags.json'), 'utf8')) as Answers

test.serial('steps are chosen by their tags as Ansible chooses tasks', t => {
  t.true(rows.length > 90)
  for (const { tags, skipTags, chosen } of rows) {
    const mine = own.map(tagsOfStep => isChosen(tagsOfStep, { tags, skipTags }))
    t.deepEqual(mine, chosen, `--tags ${tags} --skip-tags ${skipTags}, for ${JSON.stringify(own)}`)
  }
})
