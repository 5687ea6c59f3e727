// The keys in a token of PKCS#11, as pkcs11-tool of OpenSC lists them on a host.
import { HostFailedError, shown } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'

export interface Token {
  /** The library on the host. */
  readonly module: string
  readonly token: string
  /** The file on the host that has the PIN. */
  readonly pinFile: string
}

export interface TokenKey {
  readonly label: string
  /** CKA_ID, in hex. */
  readonly id: string
}

/**
 * Lists the secret keys in a token of a host. The PIN is read there, and is in no command's arguments; it is tried once.
 * @throws HostFailedError where the host has no pkcs11-tool, the token is not there, or its PIN is refused
 */
export async function tokenKeys(session: HostSession, { module, token, pinFile }: Token): Promise<TokenKey[]> {
  const { $, host } = session
  const { stdout, stderr, exitCode } = await $({ quiet: true, nothrow: true })`
PIN=$(cat ${pinFile}) || exit; export PIN
pkcs11-tool --module ${module} --token-label ${token} --login --pin env:PIN --list-objects --type secrkey`
  if (exitCode !== 0)
    throw new HostFailedError(`the token ${token} of ${host.name} can't be read: ${shown(stderr.trim(), 300)}`, {
      code: 'encryption.token',
      host: host.name,
      hint:
        exitCode === 127
          ? 'Install pkcs11-tool (Debian: opensc).'
          : 'It was tried once: tokens lock themselves after some wrong PINs. See to hsm_module, hsm_token and hsm_pin_file.',
    })
  return keysIn(stdout)
}

/** What pkcs11-tool lists: an object begins at the margin, its attributes are indented. */
export function keysIn(listing: string): TokenKey[] {
  return listing
    .split(/^(?=\S)/m)
    .filter(object => object.startsWith('Secret Key Object'))
    .map(object => ({
      label: /^[ \t]+label:[ \t]+(\S.*)$/m.exec(object)?.[1]?.trimEnd() ?? '',
      id: /^[ \t]+ID:[ \t]+([0-9a-f]+)[ \t\r]*$/m.exec(object)?.[1] ?? '',
    }))
}
