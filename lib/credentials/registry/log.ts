// The registry's own log: who is asked for by nobody any more may be revoked. Kubelets go on for minutes with what they have read of a file on their node.
import { setTimeout as delay } from 'node:timers/promises'
import { foreignWords } from '../../foreign-words.ts'
import { formatDuration } from '../../playbook/duration.ts'
import type { HostSession, StepDefinition } from '../../playbook/model.ts'
import { afterwards, machines, must, refused } from '../given.ts'
import { type Context, ids, nextOf } from './given.ts'
import { pullOnce } from './pull.ts'

/** Where a log was: the place behind its last line, and of a file which one that is. */
interface Place {
  readonly at: string
  readonly file?: string
}

const isUnit = (log: string) => /^[\w@.:-]+\.service$/.test(log)

/** A log that names users tells the old one from the new one, unless they have one name. */
const hasLog = ({ vars, check }: Context) => !check && vars.registry_log !== undefined

async function logHost(ctx: Context): Promise<HostSession> {
  const { registry_log: log, registry_log_host: name } = ctx.vars
  if (name === undefined)
    throw refused(
      'registry.log',
      `registry_log says ${log}, and registry_log_host says not where`,
      'Name a host of the inventory.',
    )
  return ctx.on(name)
}

async function placeNow({ $ }: HostSession, log: string): Promise<Place> {
  if (isUnit(log)) {
    const { stdout } = await $({
      quiet: true,
    })`journalctl -u ${log} -n 1 --show-cursor -o cat | sed -n ${'s/^-- cursor: //p'}`
    return { at: stdout.trim() }
  }
  const [at = '', file] = (await $({ quiet: true })`stat -c ${'%s %i'} -- ${log}`).stdout.trim().split(' ')
  return { at, file }
}

/** Lines since a place with a user's name in them: how many, and the last few. */
async function linesWith(session: HostSession, log: string, { at, file }: Place, user: string) {
  // A name is no expression, and stands by itself.
  const name = user.replace(/[^A-Za-z0-9]/g, one => `[${one}]`).replaceAll('[^]', '\\^')
  const pattern = `(^|[^A-Za-z0-9_.-])${name}([^A-Za-z0-9_.-]|$)`
  const count = { quiet: true, nothrow: true } as const
  const { stdout, exitCode, stderr } = isUnit(log)
    ? await session.$(
        count,
      )`journalctl -u ${log} -o cat ${at === '' ? [] : ['--after-cursor', at]} | { grep -aE -e ${pattern} || :; } | awk ${'{ last = $0; n++ } END { print n + 0; print last }'}`
    : await session.$(
        count,
      )`[ -r ${log} ] || { echo 'it can not be read' >&2; exit 1; }; from=1; [ "$(stat -c %i -- ${log})" != ${file ?? ''} ] || [ "$(stat -c %s -- ${log})" -lt ${at} ] || from=${String(Number(at) + 1)}; tail -c +"$from" -- ${log} | { grep -aE -e ${pattern} || :; } | awk ${'{ last = $0; n++ } END { print n + 0; print last }'}`
  const [first = '', last = ''] = stdout.split('\n')
  if (exitCode === 0 && /^\d+$/.test(first)) return { lines: Number(first), last: foreignWords(last) }
  throw refused(
    'registry.log',
    `${session.host.name}: ${log} can not be read: ${foreignWords(stderr)}`,
    'registry_log: a unit (NAME.service) or a file',
    session.host.name,
  )
}

/** Notes where the log is before the first change. */
export const note: StepDefinition<Context> = {
  id: ids.log,
  readOnly: true,
  remember: true,
  runOnce: true,
  when: hasLog,
  run: async (ctx): Promise<Place> => placeNow(await logHost(ctx), ctx.vars.registry_log!),
}

/** Waits until no kubelet goes by what it had read of a file that was changed. */
export const forgotten: StepDefinition<Context> = {
  ...afterwards,
  id: 'kubelets-have-forgotten',
  runOnce: true,
  run: async ctx => {
    const times = ctx
      .hosts(machines)
      .flatMap(({ name }) => ctx.registered<{ changed: string[]; at: Date | string }>(ids.files, name) ?? [])
      .filter(({ changed }) => changed.length > 0)
      .map(({ at }) => new Date(at).getTime())
    if (times.length === 0) return
    const left = Math.max(...times) + ctx.vars.kubelet_cache - Date.now()
    if (left <= 0) return
    ctx.log(`for ${formatDuration(left)} kubelets may go by what they have read before`)
    await delay(left, undefined, { signal: ctx.signal })
  },
}

/** Nobody asks the registry as the old user, for as long as `registry_quiet`; and its log has named the new one, or its silence would say nothing. */
export const quiet: StepDefinition<Context> = {
  id: ids.quiet,
  readOnly: true,
  runOnce: true,
  when: hasLog,
  run: async (ctx): Promise<{ quiet: number } | undefined> => {
    const { registry_log: log, registry_user: user, registry_quiet: wanted, registry_quiet_within: within } = ctx.vars
    const next = nextOf(ctx).user
    if (next === user) {
      ctx.log(`the old and the new credential are both of ${user}: a log that names users does not tell them apart`)
      return undefined
    }
    const session = await logHost(ctx)
    // A pull of now: what was asked before, the log may have told in another way.
    await pullOnce(ctx)
    const { lines } = await linesWith(session, log!, must(ctx.registered<Place>(ids.log), ids.log), next)
    if (lines === 0)
      throw refused(
        'registry.log-silent',
        `${session.host.name}: ${log} has never named ${next}, who has just pulled`,
        'It is no log that names users, or not that of this registry: of the old one it would say nothing either. (Distribution names them at log.level debug.) Have it name them, and go on: rekey resume; or leave registry_log out, and look yourself.',
        session.host.name,
      )
    const end = Date.now() + within
    let last = ''
    for (;;) {
      const from = await placeNow(session, log!)
      await delay(wanted, undefined, { signal: ctx.signal })
      const found = await linesWith(session, log!, from, user)
      if (found.lines === 0) return { quiet: wanted }
      last = found.last
      ctx.log(`${found.lines} lines name ${user}: ${last}`)
      if (Date.now() > end) break
    }
    throw refused(
      'registry.old-used',
      `the registry is still asked as ${user}: ${last}`,
      'See who does: a machine or a pipeline that has the credential elsewhere. Give it the new one, and go on: rekey resume. Do not revoke the old one before.',
      session.host.name,
    )
  },
}
