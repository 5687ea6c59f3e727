// A file with a password, or a program that prints one.
import { execFile } from 'node:child_process'
import { accessSync, constants, openSync, readFileSync, statSync } from 'node:fs'
import { Socket } from 'node:net'
import { resolve } from 'node:path'
import { RekeyError } from '../../errors.ts'
import { expandHome } from '../../operator.ts'

/** Milliseconds until whoever gives it must have done so: it may be asked for. */
const longest = 60_000
/** More characters are no password. */
const mostText = 64 * 1024

/** Where a password is looked for, and how it is called in messages. */
export interface PasswordFileContext {
  /** `vault password`, `SSH password` … */
  readonly what: string
  readonly code: string
  readonly cwd?: string
  readonly environment?: NodeJS.ProcessEnv
}

/**
 * Reads a password.
 * @param source a path, which may begin with `~/`
 * @param programArgs what a program is called with
 * @param open makes the password of the text of a file that is no program
 * @throws RekeyError naming the file, where it gives none
 */
export async function readPasswordFile(
  source: string,
  { what, code, cwd = process.cwd(), environment = process.env }: PasswordFileContext,
  programArgs: (file: string) => readonly string[] = () => [],
  open: (text: string, file: string) => string = text => text,
): Promise<string> {
  const file = resolve(cwd, expandHome(source, environment))
  const none = (why: string, cause?: unknown) =>
    new RekeyError(`no ${what} from ${file}: ${why}`, {
      code,
      hint: `A file for it holds the password in one line, or is a program that prints it.`,
      cause,
    })
  const found = (password: string): string => {
    if (password === '') throw none('it gives an empty password')
    return password
  }
  const stats = statSync(file, { throwIfNoEntry: false })
  // A pipe, as a shell makes it of <(command), can be read once.
  if (stats?.isFIFO()) return found(open((await fromPipe(file, none)).trim(), file).trim())
  if (!stats?.isFile()) throw none(stats ? 'it is no file' : 'there is no such file')
  const password = isExecutable(file)
    ? withoutBreaks(await printed(file, programArgs(file), cwd, environment, none))
    : open(readText(file, none).trim(), file).trim()
  return found(password)
}

/** A text without the line breaks around it. */
function withoutBreaks(text: string): string {
  let [start, end] = [0, text.length]
  while (/[\r\n]/.test(text[start] ?? '')) start++
  while (end > start && /[\r\n]/.test(text[end - 1]!)) end--
  return text.slice(start, end)
}

function readText(file: string, none: (why: string, cause?: unknown) => RekeyError): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw none((error as Error).message, error)
  }
}

/** What comes out of a pipe, from whoever writes there: at once, or after a question to the operator. */
async function fromPipe(file: string, none: (why: string, cause?: unknown) => RekeyError): Promise<string> {
  const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  const socket = new Socket({ fd: descriptor, readable: true, writable: false })
  socket.setTimeout(longest, () => socket.destroy(none(`nothing came out of the pipe for ${longest / 1_000} s`)))
  let text = ''
  for await (const chunk of socket.setEncoding('utf8')) {
    text += chunk
    if (text.length > mostText) throw none('more comes out of the pipe than a password is')
  }
  return text
}

function isExecutable(file: string): boolean {
  if ((statSync(file).mode & 0o111) === 0) return false
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function printed(
  file: string,
  args: readonly string[],
  cwd: string,
  environment: NodeJS.ProcessEnv,
  none: (why: string, cause?: unknown) => RekeyError,
): Promise<string> {
  return new Promise((resolvePassword, reject) => {
    const settings = {
      cwd,
      env: environment,
      timeout: longest,
      killSignal: 'SIGKILL',
      maxBuffer: mostText,
      encoding: 'utf8',
    } as const
    execFile(file, args, settings, (error, stdout, stderr) => {
      if (!error) return resolvePassword(stdout)
      // Where it printed too much, the code is a word of Node's.
      const tooMuch = typeof error.code === 'string' && String(error.code).includes('MAXBUFFER')
      const why = tooMuch
        ? 'it prints more than a password is'
        : error.killed
          ? `it took more than ${longest / 1_000} s`
          : stderr.trim().split('\n').at(-1) || `exit code ${error.code}`
      reject(none(why, error))
    })
  })
}
