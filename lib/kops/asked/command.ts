// One call of kops: as an operator would make it, but bounded in time, and never believed for its exit code alone.
import { HostFailedError } from '../../errors.ts'
import type { Context } from '../context.ts'
import { credentials } from './places.ts'

/** What a call said. */
export interface Answer {
  readonly stdout: string
  readonly stderr: string
}

/** How to call it. */
export interface CallOptions {
  /** What it is called for, as it reads after "waited 60 s for ". */
  readonly what: string
  /** Milliseconds. */
  readonly within?: number
  /** Whether what it prints is shown as it comes. */
  readonly shown?: boolean
  /** Goes to its stdin, and nowhere else. */
  readonly input?: Buffer
}

/** Most questions are answered from the state store alone. */
const usually = 60_000

/** Secrets of the environment by which clouds let kops in: without them named, no command gets any. */
const cloudSecrets = [
  ...['AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_SECURITY_TOKEN', 'S3_SECRET_ACCESS_KEY'],
  ...['GOOGLE_APPLICATION_CREDENTIALS', 'AZURE_CLIENT_SECRET', 'DIGITALOCEAN_ACCESS_TOKEN', 'HCLOUD_TOKEN'],
  ...['OS_PASSWORD', 'OS_TOKEN', 'OS_APPLICATION_CREDENTIAL_SECRET', 'SCW_SECRET_KEY'],
  ...['AWS_CONTAINER_AUTHORIZATION_TOKEN', 'OS_AUTH_TOKEN', 'SPOTINST_TOKEN', 'AZURE_STORAGE_KEY'],
]

/** Lines of what it said that an error quotes. */
const quoted = 12

/**
 * Calls kops on the run's cluster and state store, with the admin credential that the run exported last.
 * @throws HostFailedError where it fails, is not there, or takes longer than it may: then with what was waited for
 */
export async function kops(ctx: Context, words: readonly string[], options: CallOptions): Promise<Answer> {
  ctx.kops.stillLocked()
  const { cluster, state, kops_binary: binary, cloud_secrets: more } = ctx.vars
  const { what, within = usually, shown = false, input } = options
  const line = ['kops', ...words].join(' ')
  const environment = [`KUBECONFIG=${credentials(ctx)}`]
  const call = ctx.$({
    timeout: within,
    nothrow: true,
    quiet: !shown,
    environment: [...cloudSecrets, ...more.split(',').filter(Boolean)],
    input,
  })
  try {
    const output = await call`env ${environment} ${binary} ${words} --name ${cluster} --state ${state}`
    const { exitCode, stdout, stderr } = output
    // It was ended, and not by itself.
    if (output.cause instanceof Error) throw output.cause
    if (exitCode === 0) return { stdout, stderr }
    if (exitCode === 126 || exitCode === 127) {
      throw new HostFailedError(`${binary} can't be run: ${lastLines(stderr)}`, {
        code: 'kops.no-binary',
        hint: 'Install the kops of the cluster’s version, or say where it is: -e kops_binary=/path/to/kops.',
      })
    }
    throw new HostFailedError(`'${line}' failed: ${lastLines(stderr) || lastLines(stdout) || 'it said nothing'}`, {
      code: 'kops.failed',
    })
  } catch (thrown) {
    const cause = (thrown as { cause?: unknown }).cause ?? thrown
    if ((cause as { code?: unknown }).code !== 'command.timeout') throw thrown
    throw new HostFailedError(`waited ${within / 1_000} s for ${what}: '${line}' did not end, and was ended`, {
      code: 'kops.timeout',
      hint: 'kops tries again for minutes where a cloud’s endpoint does not answer. See that it can be reached from here, and that the credentials are of now; then: rekey resume.',
      cause,
    })
  }
}

/**
 * The answer of kops as JSON.
 * @throws HostFailedError where it is none
 */
export async function kopsJson(ctx: Context, words: readonly string[], options: CallOptions): Promise<unknown> {
  const { stdout } = await kops(ctx, [...words, '-o', 'json'], options)
  try {
    return JSON.parse(stdout)
  } catch (cause) {
    throw new HostFailedError(`'kops ${words.join(' ')} -o json' answered with what is no JSON: ${lastLines(stdout)}`, {
      code: 'kops.unexpected-answer',
      cause,
    })
  }
}

/** The objects of an answer: kops prints one alone, and several as a list. */
export function listed(answer: unknown): Readonly<Record<string, unknown>>[] {
  const all = Array.isArray(answer) ? answer : [answer]
  return all.filter(one => typeof one === 'object' && one !== null)
}

/** The end of what it said, without the lines of its log. */
function lastLines(text: string): string {
  const lines = text.split('\n').filter(line => line.trim() !== '' && !/^[IW]\d{4} /.test(line))
  return lines.slice(-quoted).join('\n').trim()
}
