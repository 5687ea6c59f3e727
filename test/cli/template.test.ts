// `rekey template` over ssh: the same sets, checks and commands as on this machine.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { testsOnSshd } from './_rekey.ts'

const { real } = testsOnSshd('templates over ssh are')

real('a set is placed over ssh, its command runs once, and is left alone the second time', async t => {
  const { bench } = t.context
  const out = join(bench.folder, 'out')
  mkdirSync(out)
  writeFileSync(join(out, 'open'), 'as it was')
  const config = join(bench.folder, 'templates.hcl')
  const template = (name: string, contents: string, more: string) =>
    `template {\n contents = "${contents}"\n destination = "${out}/${name}"\n command = "echo ran >> ${out}/ran"\n${more}}\n`
  writeFileSync(
    config,
    template('deep/secret', '{{ env \\"PHRASE\\" }}\\n', ' perms = "0600"\n') +
      template(
        'open',
        '{{ .Host.Name }}: é {{ file \\"FILE\\" }}'.replace('FILE', join(bench.folder, 'there')),
        ' backup = true\n',
      ),
  )
  writeFileSync(join(bench.folder, 'there'), "it's there")
  const run = () =>
    bench.rekey(['template', 'h1', '-i', bench.inventory, '-c', config], { env: { PHRASE: 'the phrase of this test' } })
  const first = await run()
  t.is(first.code, 0, first.stderr + first.stdout)
  t.is(readFileSync(join(out, 'deep/secret'), 'utf8'), 'the phrase of this test\n')
  t.is(statSync(join(out, 'deep/secret')).mode & 0o777, 0o600)
  t.is(readFileSync(join(out, 'open'), 'utf8'), "h1: é it's there")
  t.is(readFileSync(join(out, 'open.bak'), 'utf8'), 'as it was')
  const second = await run()
  t.is(second.code, 0, second.stderr + second.stdout)
  t.regex(second.stdout, /ok +Put the files in place/)
  t.is(readFileSync(join(out, 'ran'), 'utf8'), 'ran\n')
  t.deepEqual(readdirSync(out).sort(), ['deep', 'open', 'open.bak', 'ran'])
  t.deepEqual(readdirSync(join(out, 'deep')), ['secret'])
})
