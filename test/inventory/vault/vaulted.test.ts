// What ansible-vault had encrypted is replaced wherever it is shown, from when it is open.
import { Vault as Cipher } from 'ansible-vault'
import test from 'ava'
import { loadInventory } from '../../../lib/inventory/index.ts'
import { redactor } from '../../../lib/output/redaction.ts'
import { writeFiles } from '../temporary-files.ts'

const encrypt = (text: string) =>
  new Cipher({ password: 'the password of the vault' }).encryptSync(text, undefined as never)
const inline = (text: string) => `!vault |\n${encrypt(text).replace(/^/gm, '    ')}`

test('vaulted variables are secrets: inline ones, all of an encrypted file, and what its templates come to', async t => {
  const { text } = redactor()
  const cwd = writeFiles(t, {
    'hosts.ini': encrypt('[g]\nh1 in_inventory=from-the-inventory\n'),
    'plain.ini': '[g]\nh2\n',
    'group_vars/all.yml': `inline: ${inline('of-one-variable')}\nopen: nothing-to-hide\nuser: some-user-name\n`,
    'group_vars/g.yml': encrypt(
      'list: [first-in-a-list, {deep: deep-in-a-map}]\npin: 482913\nurl: "db://{{ user }}:{{ inline }}@x"\non: true\nshort: ab\n',
    ),
    'extra.yml': encrypt('extra: given-with-minus-e\n'),
    password: 'the password of the vault\n',
  })
  const inventory = await loadInventory({
    ...{ sources: ['hosts.ini', 'plain.ini'], cwd, environment: {}, extraVars: ['@extra.yml'] },
    vaultPasswordFiles: ['password'],
  })
  const shown = 'of-one-variable nothing-to-hide first-in-a-list deep-in-a-map 482913 some-user-name true'
  t.is(text(shown), shown, 'nothing was opened yet')
  const { vars } = inventory.host('h2')
  t.is(vars['inline'], 'of-one-variable')
  t.is(vars['url'], 'db://some-user-name:of-one-variable@x')
  t.is(text(shown), '«redacted» nothing-to-hide «redacted» «redacted» «redacted» some-user-name true')
  t.is(text('db://some-user-name:of-one-variable@x'), '«redacted»')
  t.is(text('given-with-minus-e from-the-inventory the password of the vault'), '«redacted» «redacted» «redacted»')
})
