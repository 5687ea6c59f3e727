// What is refused before a rotation, and the page that says so: each code is in its table, and none that is not thrown.
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'

const root = join(import.meta.dirname, '../..')
const looking = '{kubernetes/layout,rotation/as-found,rotation/rescue,rotation/restore}/**/*.ts'
const files = globSync(
  [`lib/${looking}`, 'lib/rotation/*.ts', 'lib/kubernetes/trust/machine.ts', 'lib/kubernetes/components/etcd.ts'],
  {
    cwd: root,
  },
)
const refused =
  /^(layout\.|rescue\.|restore\.|preflight\.|machine\.|etcd\.no-tools$|pki\.(certificate-missing|masters-disagree)$)/

test('every refusal of what is found on a cluster is on the page of supported clusters, and no other', t => {
  const thrown = files.flatMap(file =>
    [...readFileSync(join(root, file), 'utf8').matchAll(/code: '([\w.-]+)'/g)].map(([, code = '']) => code),
  )
  const page = readFileSync(join(root, 'docs/supported-clusters.md'), 'utf8')
  const [, table = ''] = page.split('## What is refused, and with which words')
  const said = table.split('\n').flatMap(line => {
    const [, codes = ''] = line.split('|')
    return [...codes.matchAll(/`([\w.-]+\.[\w.-]+)`/g)].map(([, code = '']) => code)
  })
  t.deepEqual(said.toSorted(), [...new Set(thrown.filter(code => refused.test(code)))].sort())
})
