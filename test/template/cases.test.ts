// Every template case: the same bytes that consul-template wrote, or a refusal where rekey is stricter.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { vaultLists, vaultSecrets } from '../../lib/pki/vault/secrets.ts'
import { connectVault } from '../../lib/pki/vault/vault.ts'
import { createRenderer, type WrittenFile } from '../../lib/template/render.ts'
import { startCannedVault } from './_canned-vault.ts'
import { readCases, readMachine, type TemplateCase } from './_cases.ts'

const vault = await startCannedVault()
const client = await connectVault({ address: vault.address, token: 'a-token' })
const read = vaultSecrets(client)
const folder = mkdtempSync(join(tmpdir(), 'rekey-cases-'))
test.after.always(() => {
  client.close()
  vault.stop()
  rmSync(folder, { recursive: true, force: true })
})

const all = readCases()
test.serial('at least 120 cases hold the bytes that consul-template wrote', t => {
  const written = [...all.values()].flat().filter(one => one.expected !== undefined || one.expectedBase64 !== undefined)
  t.true(written.length >= 120)
})

for (const [topic, cases] of all) {
  for (const one of cases) {
    test.serial(`${topic}: ${one.title}`, async t => {
      if (one.failure || one.refused) {
        const error = await t.throwsAsync(render(one), { name: 'RekeyError' })
        t.regex(error.message, /^case\.tpl:\d+:\d+: ./)
        if (one.refused) t.true(error.message.includes(one.refused), error.message)
        return
      }
      const { bytes, files } = await render(one)
      t.is(bytes.toString('latin1'), wanted(one).toString('latin1'))
      t.deepEqual(placed(files), one.files ?? {})
    })
  }
}

const wanted = ({ expected, expectedBase64 }: TemplateCase) =>
  expected === undefined ? Buffer.from(expectedBase64!, 'base64') : Buffer.from(expected)

async function render(one: TemplateCase) {
  for (const [name, content] of Object.entries(one.inputs ?? {})) writeFileSync(join(folder, name), content)
  const renderer = createRenderer({
    // Issues past the checks: the canned Vault answers everyone with the same certificate.
    secrets: async (path, data) => (data && path.includes('/issue/') ? client.write(path, data) : read(path, data)),
    list: vaultLists(client),
    environment: { FOLDER: folder, ...one.env },
    readFile: path => readFile(path, 'utf8'),
    interfaces: one.interfaces && (async () => readMachine()),
  })
  const delimiters = one.delimiters && { left: one.delimiters[0], right: one.delimiters[1] }
  return renderer.render(one.template, { name: 'case.tpl', delimiters, strictKeys: one.strictKeys })
}

/** What the files would be once placed, appended ones joined. */
function placed(files: readonly WrittenFile[]) {
  const found: Record<string, { content: string; mode: string }> = {}
  for (const file of files) {
    const name = file.path.slice(folder.length + 1)
    const before = file.append ? (found[name]?.content ?? '') : ''
    found[name] = { content: before + file.content.toString('utf8'), mode: file.mode.toString(8) }
  }
  return found
}
