// The KMS plugins of a lab: on each master one that API servers encrypt by, as a unit, with its key in Vault's transit engine or in a token of SoftHSM; and what
// a second one beside it needs.
import { randomUUID } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ownFile } from '../../package.ts'
import { createRenderer } from '../../template/render.ts'
import { exec } from '../machines/machine.ts'
import { hasPlugin, masters, type Shape } from '../shape.ts'
import { pluginEndpoint, pluginFolder } from './encryption.ts'
import { callVault, secretFile, vaultAddress, vaultCaFile, vaultFolder, vaultRootTokenFile } from './vault.ts'

const folder = '/etc/kms'
const files = { token: `${folder}/vault-token`, ca: `${folder}/vault-ca.crt`, pin: `${folder}/pin` }
const library = '/usr/lib/softhsm/libsofthsm2.so'
/** A token without the device, and how to make keys in it. */
export const tokenPackages = ['softhsm2', 'opensc'] as const
const configOf = (name: string) => `${folder}/${name}.conf`
const unitOf = (name: string) => `kms-${name}.service`
const ports = { first: 8787, second: 8788 } as const

/** Which keys there are: the first is what plugins begin with, the second is there to be rotated to. */
const keys = { 'kms-vault': ['first', 'second'], 'kms-hsm': ['kek-1', 'kek-2'] } as const

type Name = keyof typeof ports

/** What the templates of a plugin are filled with. */
function dataOf(shape: Shape, name: Name): Record<string, unknown> {
  const key = (['first', 'second'] as const).indexOf(name)
  return {
    ...{ kms_name: name, kms_endpoint: pluginEndpoint(name), kms_health_port: ports[name] },
    ...{ kms_program: '/usr/local/bin/kms', kms_config: configOf(name) },
    ...(shape.encryption === 'kms-vault'
      ? {
          ...{ kms_vault_address: vaultAddress(shape), kms_vault_ca: files.ca, kms_vault_token_file: files.token },
          ...{ kms_transit_mount: 'transit', kms_transit_key: keys['kms-vault'][key] },
        }
      : {
          ...{ kms_library: library, kms_token: 'kms', kms_pin_file: files.pin },
          kms_primary_key: keys['kms-hsm'][key],
        }),
  }
}

const configTemplate = ({ encryption }: Shape) => (encryption === 'kms-vault' ? 'vault.conf.tpl' : 'hsm.conf.tpl')

/** What the inventory has for playbooks that rotate what is behind the plugin: a second one beside the first, and what is in the token. */
export function pluginVariables(shape: Shape): Record<string, unknown> {
  if (!hasPlugin(shape)) return {}
  return {
    ...dataOf(shape, 'second'),
    kms_files: [
      { src: configTemplate(shape), dest: configOf('second') },
      { src: 'plugin.service.tpl', dest: `/etc/systemd/system/${unitOf('second')}`, mode: '0644' },
    ],
    kms_old: unitOf('first'),
    ...(shape.encryption === 'kms-hsm' && {
      ...{ hsm_config: configOf('first'), hsm_unit: unitOf('first'), hsm_health_port: ports.first },
      ...{ hsm_module: library, hsm_token: 'kms', hsm_pin_file: files.pin },
    }),
  }
}

/** Makes the keys, and starts the plugin of each master. Vault must be active. */
export async function makePlugins(shape: Shape): Promise<void> {
  await onMasters(shape, `umask 077; mkdir -p ${folder} ${pluginFolder}`)
  if (shape.encryption === 'kms-vault') await makeTransitKeys(shape)
  else await makeToken(shape)
  const { render } = createRenderer({ secrets: async () => undefined })
  const text = async (template: string) => {
    const source = readFileSync(ownFile('templates', 'kms', template), 'utf8')
    return (await render(source, { name: template, data: dataOf(shape, 'first') })).output
  }
  await place(shape, configOf('first'), await text(configTemplate(shape)))
  await place(shape, `/etc/systemd/system/${unitOf('first')}`, await text('plugin.service.tpl'), '644')
  await onMasters(shape, `systemctl daemon-reload; systemctl enable --now ${unitOf('first')}`)
}

async function onMasters(shape: Shape, script: string, input?: string): Promise<void> {
  for (const { name } of masters(shape)) await exec(shape.name, name, ['sh', '-euc', script], { input })
}

const place = (shape: Shape, path: string, content: string, mode = '600') =>
  onMasters(shape, `umask 077; cat >${path}; chmod ${mode} ${path}`, content)

async function makeTransitKeys(shape: Shape): Promise<void> {
  const root = rootTokenOf(shape)
  await callVault(shape, 'POST', 'sys/mounts/transit', { type: 'transit' }, root)
  for (const key of keys['kms-vault']) await callVault(shape, 'POST', `transit/keys/${key}`, {}, root)
  await callVault(shape, 'PUT', 'sys/policies/acl/kms-plugin', { policy: pluginPolicy }, root)
  await place(shape, files.ca, readFileSync(vaultCaFile(shape.name), 'utf8'))
  await renewPluginToken(shape)
}

/** What a plugin needs of Vault. */
const pluginPolicy = `
path "transit/keys/*" { capabilities = ["read"] }
path "transit/encrypt/*" { capabilities = ["create", "update"] }
path "transit/decrypt/*" { capabilities = ["create", "update"] }
`

const rootTokenOf = ({ name }: Shape) => readFileSync(vaultRootTokenFile(name), 'utf8').trim()

/** Renews the token of the plugins in Vault, or gives them another one where it has expired. Of other labs nothing. */
export async function renewPluginToken(shape: Shape): Promise<void> {
  if (shape.encryption !== 'kms-vault') return
  const file = join(vaultFolder(shape.name), 'kms-token')
  const holds =
    existsSync(file) &&
    (await callVault(shape, 'POST', 'auth/token/renew-self', {}, readFileSync(file, 'utf8').trim()).then(
      () => true,
      () => false,
    ))
  if (holds) return
  const asked = { policies: ['kms-plugin'], period: '768h', display_name: 'kms' }
  const { auth } = await callVault(shape, 'POST', 'auth/token/create-orphan', asked, rootTokenOf(shape))
  const token = `${(auth as { client_token: string }).client_token}\n`
  secretFile(file, token)
  await place(shape, files.token, token)
}

/** A token with both keys, made on the first master and copied to the others: as if all of them reached one HSM. */
async function makeToken(shape: Shape): Promise<void> {
  const pin = '1234'
  await place(shape, files.pin, `${pin}\n`)
  const [first, ...others] = masters(shape)
  const tool = `PIN=${pin} pkcs11-tool --module ${library} --token-label kms --login --pin env:PIN`
  const made = keys['kms-hsm'].map(
    label =>
      `${tool} --keygen --key-type AES:32 --label ${label} --id ${randomUUID().replaceAll('-', '')} --sensitive >&2`,
  )
  const copy = await exec(shape.name, first!.name, [
    ...['sh', '-euc'],
    `softhsm2-util --init-token --free --label kms --pin ${pin} --so-pin ${pin}5678 >&2
${made.join('\n')}
tar -C /var/lib/softhsm -cf - tokens | base64`,
  ])
  for (const { name } of others)
    await exec(shape.name, name, ['sh', '-euc', 'base64 -d | tar -C /var/lib/softhsm -xf -'], { input: copy })
}
