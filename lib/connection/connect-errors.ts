// Why a host can't be connected to: the same words and codes, whichever kind of connection found it out. What the host itself said before it
// let anybody in may be anything, and comes from anybody.
import { HostFailedError, UnreachableError } from '../errors.ts'
import { foreignWords } from '../foreign-words.ts'
import type { ConnectionSettings } from './settings.ts'

/** `user@address`, with the port where it is not the usual one. */
function whereabouts({ user, address, port }: ConnectionSettings): string {
  return `${user}@${address}${port === 22 ? '' : `:${port}`}`
}

/** The host presented a key that nobody recorded. `shown` is its type and fingerprint. */
export function hostKeyUnknown(
  name: string,
  { address, port }: ConnectionSettings,
  shown: string,
  file: string,
): UnreachableError {
  const scan = `ssh-keyscan ${port === 22 ? '' : `-p ${port} `}${address}`
  return new UnreachableError(`the host key of ${name} is not known: ${foreignWords(shown)}`, {
    code: 'connection.host-key-unknown',
    host: name,
    hint: `Compare the fingerprint with the host's, then accept it with: ${scan} >> ${file}`,
  })
}

/** The host presented another key than the one that is recorded at `place`, or one that is revoked there. */
export function hostKeyWrong(name: string, is: 'changed' | 'revoked', shown: string, place: string): UnreachableError {
  const what =
    is === 'revoked'
      ? `${name} presented a host key that is revoked at ${place}: ${foreignWords(shown)}`
      : `the host key of ${name} is not the one at ${place}: it presented ${foreignWords(shown)}`
  return new UnreachableError(what, {
    code: `connection.host-key-${is}`,
    host: name,
    hint: 'Somebody may be in between, or the host was reinstalled. Once you are sure of it, remove that line and record the new key.',
  })
}

/** What was shown to the host did not satisfy it. */
export function notLetIn(
  name: string,
  settings: ConnectionSettings,
  { tried, takes, asked, cause }: { tried: string; takes: string; asked?: string; cause?: Error },
): UnreachableError {
  const question = asked === undefined ? '' : `; it asked "${foreignWords(asked)}", which nobody could answer`
  const elsewhere =
    settings.kind === 'ssh' ? ' Certificates and keys on security tokens need ansible_connection=openssh.' : ''
  return new UnreachableError(
    `${name} did not let us in as ${whereabouts(settings)} with ${tried}${takes && ` (it takes: ${foreignWords(takes)})`}${question}`,
    {
      code: 'connection.authentication',
      host: name,
      hint: `Check ansible_user and ansible_ssh_private_key_file, and the host’s authorized_keys.${elsewhere}`,
      cause,
    },
  )
}

/** The host offers nothing for `what` (a key exchange method, a cipher …) that we accept. */
export function tooOld(name: string, what: string, cause?: Error): UnreachableError {
  return new UnreachableError(
    `${name} is too old to be trusted: it offers no ${foreignWords(what)} that rekey accepts`,
    {
      code: 'connection.algorithms',
      host: name,
      hint: 'Update its SSH server; nothing with SHA-1 or CBC is accepted.',
      cause,
    },
  )
}

/** It was there, and hung up. */
export function closedEarly(name: string, settings: ConnectionSettings, cause?: Error): UnreachableError {
  return new UnreachableError(`${name} closed the connection at ${whereabouts(settings)} before it said anything`, {
    code: 'connection.closed-early',
    host: name,
    hint: 'Its sshd may be overrun (MaxStartups), or turn this address away: look at its log.',
    cause,
  })
}

/** Nobody answers there. */
export function cannotReach(
  name: string,
  settings: ConnectionSettings,
  reason: string,
  cause?: Error,
): UnreachableError {
  return new UnreachableError(`${name} can't be reached at ${whereabouts(settings)}: ${foreignWords(reason)}`, {
    code: 'connection.unreachable',
    host: name,
    hint: 'Is the host up, and its address in the inventory right?',
    cause,
  })
}

/** What SSH calls administratively prohibited. */
const prohibited = 1

/** A host that is connected to, and could not open a way to one of its ports, or may not. */
export function cannotForward(name: string, address: string, port: number, cause: Error): HostFailedError {
  const isProhibited = (cause as { reason?: unknown }).reason === prohibited
  return new HostFailedError(
    `${name} could not open a connection to ${address}:${port}: ${foreignWords(cause.message)}`,
    {
      code: isProhibited ? 'connection.forward-prohibited' : 'connection.forward',
      hint: isProhibited ? 'Its sshd does not forward there: AllowTcpForwarding or PermitOpen says so.' : undefined,
      host: name,
      cause,
    },
  )
}
