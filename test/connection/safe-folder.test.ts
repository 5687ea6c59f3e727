// A private folder that could not be entered is not cleaned up: what is where we stand instead is not ours.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { safeFolders } from '../../lib/connection/safe-folder.ts'
import { temporaryFolder } from '../_temporary.ts'

/** What happens just when the folder was made. `$last` is its name. */
const moments: Record<string, string> = {
  'it is renamed by somebody else': 'mv -T "$last" ./.gone',
  'it is renamed, and a link put in its place': 'mv -T "$last" ./.gone && ln -s "$OLDPLACE" "$last"',
  'we are told to end': 'kill -TERM $PPID',
  'the link is lost': 'kill -HUP $PPID',
}

for (const [what, then] of Object.entries(moments)) {
  test(`where a private folder was made and ${what}, nothing of the folder around it is removed`, t => {
    const root = temporaryFolder('safe')
    const [programs, place, elsewhere] = ['programs', 'place', 'elsewhere'].map(name => join(root, name))
    for (const folder of [programs!, place!, elsewhere!]) mkdirSync(folder)
    for (const folder of [place!, elsewhere!]) writeFileSync(join(folder, 'kept'), '')
    const mktemp = join(programs!, 'mktemp')
    writeFileSync(mktemp, `#!/bin/sh\nlast=$(PATH=\${PATH#*:} mktemp "$@") && echo "$last" && { ${then}; }\n`)
    chmodSync(mktemp, 0o755)
    const script = `set -e; umask 077\n${safeFolders}\ntrap _leave EXIT; trap 'exit 1' HUP INT TERM PIPE; _in '${place}'; _private; touch f; _leave`
    const { status } = spawnSync('/bin/sh', ['-c', script], {
      env: { PATH: `${programs}:${process.env['PATH']}`, OLDPLACE: elsewhere },
    })
    t.not(status, 0)
    for (const folder of [place!, elsewhere!]) t.true(readdirSync(folder).includes('kept'), folder)
    if (then.startsWith('kill')) t.deepEqual(readdirSync(place!), ['kept'])
  })
}

test('what was made in a private folder goes with it, and the folder around it stays', t => {
  const place = temporaryFolder('safe')
  writeFileSync(join(place, 'kept'), '')
  const script = `set -e; umask 077\n${safeFolders}\ntrap _leave EXIT; _in '${place}'; _private; touch f g; mv f ../new; exit 3`
  t.is(spawnSync('/bin/sh', ['-c', script]).status, 3)
  t.deepEqual(readdirSync(place).sort(), ['kept', 'new'])
})
