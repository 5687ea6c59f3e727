// A master connection of the system's ssh (ControlMaster): logged in once, shared by everything that talks to its host.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CancelledError, RekeyError, type UnreachableError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import { ownModule } from '../../package.ts'
import { cannotReach, closedEarly, hostKeyUnknown, hostKeyWrong, notLetIn, tooOld } from '../connect-errors.ts'
import { defaultKnownHostsFiles, endLastLine, requireReadable, unusable } from '../login/host-keys.ts'
import type { ConnectionSettings } from '../settings.ts'
import { quote } from '../shell.ts'
import type { Hop } from '../ssh/bastions.ts'

/** An ssh that is logged in. */
export interface Master extends Hop {
  readonly controlPath: string
}

/** How often it is looked whether ssh has logged in, in milliseconds. */
const poll = 15

/**
 * ssh in a session of its own, so that a Ctrl-C is rekey's to handle, and ended with rekey however that ends: then its stdin is
 * closed. The folder goes with it.
 */
const supervise = `exec 3<&0
"$@" </dev/null 3<&- &
master=$!
{ read -r nothing; kill "$master"; } <&3 2>/dev/null &
watch=$!
exec 3<&-
wait "$master"
rm -rf "$REKEY_FOLDER"
kill "$watch" 2>/dev/null`

/**
 * Logs in with the system's ssh, and keeps the connection open.
 * @param name for messages: the inventory name, or that of a bastion
 * @param before the bastion to go through
 * @throws UnreachableError when it can't be reached, its key is not the known one, or it does not let us in
 */
export async function openMaster(
  name: string,
  settings: ConnectionSettings,
  before?: Master,
  signal?: AbortSignal,
): Promise<Master> {
  signal?.throwIfAborted()
  const accepts = settings.hostKeyChecking === 'accept-new'
  const known = settings.knownHostsFiles ?? (accepts ? defaultKnownHostsFiles() : [])
  // To ssh, one that it can't read has no hosts; and it appends to whatever the last line is.
  for (const file of known) requireReadable(file)
  if (accepts && known[0] !== undefined) endLastLine(known[0])
  const folder = mkdtempSync(join(shortestFolder(), 'rekey-ssh-'))
  const controlPath = join(folder, 'control')
  const asked: string[] = []
  const answers = await answerQuestions(join(folder, 'ask'), settings, asked)
  const program = join(folder, 'askpass')
  const helper = ownModule('lib/connection/openssh/askpass.ts')
  const line = [process.execPath, helper, join(folder, 'ask')].map(quote).join(' ')
  writeFileSync(program, `#!/bin/sh\nexec ${line} "$1"\n`, { mode: 0o700 })
  const child = spawn('/bin/sh', ['-c', supervise, 'ssh', 'ssh', ...masterArguments(settings, controlPath, before)], {
    detached: true,
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...process.env, REKEY_FOLDER: folder, SSH_ASKPASS: program, SSH_ASKPASS_REQUIRE: 'force' },
  })
  const end = () => child.stdin.end()
  let loggedIn = false
  let said = ''
  let outdated: string | undefined
  child.stderr.on('data', (chunk: Buffer) => {
    // Of a connection that stays for hours, the last words are enough.
    said = (said + chunk).slice(-64 * 1024)
    if (loggedIn) return
    outdated ??= outdatedIn(said)
    // Before it asks for a password.
    if (outdated !== undefined) end()
  })
  child.stdin.on('error', () => {})
  const ended = once(child, 'close').then(
    () => true,
    () => true,
  )
  const giveUp = AbortSignal.any([AbortSignal.timeout(settings.connectTimeout * 1_000), ...(signal ? [signal] : [])])
  try {
    while (outdated === undefined && !existsSync(controlPath)) {
      if (await Promise.race([ended, delay(poll, false)])) {
        throw outdated === undefined ? whyNot(name, settings, said, asked) : tooOld(name, outdated)
      }
      if (signal?.aborted) {
        throw new CancelledError(`connecting to ${name} was cancelled`, { code: 'run.cancelled', host: name })
      }
      if (giveUp.aborted) {
        const waiting = asked[0] === undefined ? '' : `; ssh waits for: ${asked[0]}`
        throw cannotReach(name, settings, `no answer within ${settings.connectTimeout} s${waiting}`)
      }
    }
    if (outdated !== undefined) throw tooOld(name, outdated)
    const notRecorded = /^Failed to add the host to the list of known hosts \((.*)\)\./m.exec(said)?.[1]
    if (notRecorded !== undefined)
      throw unusable(foreignWords(notRecorded), `can't be written, to accept the key of ${name}`)
    loggedIn = true
  } catch (error) {
    end()
    rmSync(folder, { recursive: true, force: true })
    throw error
  } finally {
    answers.close()
  }
  return {
    controlPath,
    close: end,
    onClose: listener => void ended.then(listener),
  }
}

function masterArguments(settings: ConnectionSettings, controlPath: string, before: Master | undefined): string[] {
  const { address, port, user, openssh, proxyCommand, privateKeyFile, knownHostsFiles, hostKeyChecking } = settings
  const destination = openssh?.destination ?? address
  const keepalive = settings.keepalive ?? { seconds: 5, count: 3 }
  const proxy = before ? throughMaster(before, settings) : proxyCommand
  const options = [
    // What rekey relies on; of an option that is given twice, ssh takes the first.
    'ControlMaster=yes',
    `ControlPath=${controlPath}`,
    'ControlPersist=no',
    'ForwardAgent=no',
    'ForwardX11=no',
    'ClearAllForwardings=yes',
    'PermitLocalCommand=no',
    'RemoteCommand=none',
    'RequestTTY=no',
    'ForkAfterAuthentication=no',
    'NumberOfPasswordPrompts=1',
    `StrictHostKeyChecking=${hostKeyChecking}`,
    `ServerAliveInterval=${keepalive.seconds}`,
    `ServerAliveCountMax=${keepalive.count}`,
    `ConnectTimeout=${Math.ceil(settings.connectTimeout)}`,
    `User=${user}`,
    `Port=${port}`,
    ...(address === destination ? [] : [`HostName=${address}`]),
    ...(privateKeyFile === undefined ? [] : [`IdentityFile="${privateKeyFile}"`]),
    ...(knownHostsFiles ? [`UserKnownHostsFile=${knownHostsFiles.map(file => `"${file}"`).join(' ')}`] : []),
    ...(proxy === undefined ? ['ProxyJump=none'] : [`ProxyCommand=${proxy}`]),
    ...(openssh?.options ?? []),
  ]
  return [
    ...(openssh?.configurationFile === undefined ? [] : ['-F', openssh.configurationFile]),
    // Said are the fingerprint of the host and the reasons for a no; nothing of it is secret.
    '-v',
    '-N',
    '-T',
    ...options.flatMap(option => ['-o', option]),
    '--',
    destination,
  ]
}

function throughMaster({ controlPath }: Master, { address, port }: ConnectionSettings): string {
  const host = address.includes(':') ? `[${address}]` : address
  // The address of the bastion is known to its master.
  return `ssh -o ControlMaster=no -S ${quote(controlPath)} -W ${quote(`${host}:${port}`)} -- bastion`
}

/** The path of a socket may have some 100 characters, and ssh adds 17 of its own while it makes one. */
function shortestFolder(): string {
  const folder = process.env['XDG_RUNTIME_DIR'] ?? tmpdir()
  return folder.length <= 50 && existsSync(folder) ? folder : '/tmp'
}

/** Answers ssh's questions for what is known; the others are left in `asked`. */
async function answerQuestions(path: string, settings: ConnectionSettings, asked: string[]): Promise<Server> {
  const { password, unlockedKeys } = settings
  const answer = (question: string): string | undefined => {
    // A server may ask anything; ssh itself is brief.
    if (question.length > 1_000) return undefined
    const file = passphraseFor(question)
    if (file !== undefined) return unlockedKeys?.get(file)?.passphrase.reveal()
    return /:\s*$/.test(question) && !/\bPIN\b/.test(question) ? password : undefined
  }
  const server = createServer({ allowHalfOpen: true }, socket => {
    let said = ''
    socket.on('error', () => {})
    socket.on('data', chunk => {
      said += chunk
      if (!said.endsWith('\n')) return
      const { question, kind } = JSON.parse(said) as { question: string; kind: string }
      const known = kind === '' ? answer(question) : undefined
      if (known === undefined) asked.push(question.trim())
      // What wants no answer stays until ssh ends it.
      if (kind !== 'none') socket.end(known === undefined ? '' : `${known}\n`)
    })
  })
  server.listen(path)
  await once(server, 'listening')
  return server.unref()
}

/**
 * The key whose passphrase ssh itself asks for; undefined where it asks for something else, or hands on a question of the server, which it
 * puts the login before: `(root@m1) Enter passphrase for key …`.
 */
export function passphraseFor(question: string): string | undefined {
  return /^Enter passphrase for (?:key )?'?([^'\n]+?)'?:\s*$/.exec(question)?.[1]
}

/** The host key that ssh -v says was presented: in a line of its own, and not in what the server says of itself. */
export function presentedKey(said: string): string | undefined {
  return /^debug1: Server host key: (\S+ \S+)\s*$/m.exec(said)?.[1]
}

/** What ssh said, without what only -v makes it say. */
function words(said: string): string[] {
  return said
    .split(/\r?\n/)
    .map(line => line.trim())
    .filter(line => line !== '' && !/^(debug\d|OpenSSH_|Authenticated to|Transferred:|Bytes per second)/.test(line))
}

/**
 * What the host and ssh agreed on, where that is nothing to be trusted: ssh still takes a MAC with SHA-1 by itself, and its configuration may
 * allow more.
 */
function outdatedIn(said: string): string | undefined {
  const agreed = {
    'key exchange method': 'kex: algorithm: ',
    'host key algorithm': 'kex: host key algorithm: ',
    cipher: ' cipher: ',
    MAC: ' MAC: ',
  }
  const lines = said.split('\n').filter(line => line.includes('kex: '))
  const isOutdated = (algorithm: string) => /sha1|md5|-cbc|^ssh-(rsa|dss)|arcfour/.test(algorithm)
  return Object.entries(agreed).find(([, before]) => lines.some(line => isOutdated(wordAfter(line, before))))?.[0]
}

/** The word behind the last of these; nothing where there is none. */
function wordAfter(line: string, before: string): string {
  const at = line.lastIndexOf(before)
  return at === -1
    ? ''
    : (line
        .slice(at + before.length)
        .trimEnd()
        .split(' ', 1)[0] ?? '')
}

/** What stands between the first of these and what comes behind it in its line; undefined where no line has both. */
function between(said: string, before: string, behind: string): string | undefined {
  for (const line of said.split('\n')) {
    const from = line.indexOf(before)
    const to = line.lastIndexOf(behind)
    if (from !== -1 && to >= from + before.length) return line.slice(from + before.length, to)
  }
  return undefined
}

function whyNot(name: string, settings: ConnectionSettings, said: string, asked: string[]): UnreachableError {
  const presented = presentedKey(said) ?? 'a key'
  const offending = said
    .split('\n')
    .find(line => line.includes('Offending '))
    ?.split('key in ', 2)[1]
    ?.trim()
  if (/REVOKED HOST KEY/.test(said)) {
    return hostKeyWrong(name, 'revoked', presented, settings.knownHostsFiles?.join(' or ') ?? 'its known_hosts')
  }
  if (/HOST IDENTIFICATION HAS CHANGED/.test(said) && offending) {
    return hostKeyWrong(name, 'changed', presented, offending)
  }
  if (/Host key verification failed|host key is known for/.test(said)) {
    return hostKeyUnknown(name, settings, presented, settings.knownHostsFiles?.[0] ?? '~/.ssh/known_hosts')
  }
  const takes = between(said, 'Permission denied (', ')')
  if (takes !== undefined || /Too many authentication failures/.test(said)) {
    return notLetIn(name, settings, {
      tried: 'what ssh has',
      takes: takes?.replaceAll(',', ', ') ?? '',
      asked: asked[0],
    })
  }
  const missing = between(said, 'no matching ', ' found')
  if (missing !== undefined) return tooOld(name, missing)
  const known = /(Connection refused|No route to host|Network is unreachable|Could not resolve hostname)/.exec(
    said,
  )?.[1]
  if (known !== undefined) return cannotReach(name, settings, known.toLowerCase())
  const behind = /Stdio forwarding request failed: (.+)/i.exec(said)?.[1]
  if (behind !== undefined) return cannotReach(name, settings, `the bastion does not get there: ${behind.trim()}`)
  const early =
    /kex_exchange_identification|Connection (closed|reset) by/.test(said) && presentedKey(said) === undefined
  if (early) return closedEarly(name, settings)
  return cannotReach(name, settings, words(said).at(-1) ?? 'ssh ended without a word')
}

/** @throws RekeyError where there is no ssh to drive */
export function requireOpenssh(name: string): void {
  const found = (process.env['PATH'] ?? '').split(':').some(folder => folder !== '' && existsSync(join(folder, 'ssh')))
  if (found) return
  throw new RekeyError(`${name}: ansible_connection=openssh needs the program ssh on this machine`, {
    code: 'connection.no-openssh',
    host: name,
    hint: 'Install the OpenSSH client, or use ansible_connection=ssh.',
  })
}
