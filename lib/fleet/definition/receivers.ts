// `notify` of fleet.yml: who is told what happens.
import { z } from 'zod'
import { shown } from '../../errors.ts'
import { isLoopback } from '../../loopback.ts'

/** What somebody may be told of. */
export const toldOf = ['halted', 'approval', 'wave', 'failed', 'unknown', 'ended'] as const
/** Where nothing is said: what somebody has to do something about, and the end. */
const usual: readonly (typeof toldOf)[number][] = ['halted', 'approval', 'failed', 'unknown', 'ended']

/** How somebody is told. Files are as written: below the folder of fleet.yml, or absolute. */
export type Way =
  | { readonly kind: 'webhook'; readonly url: string; readonly secretFile: string }
  | { readonly kind: 'slack'; readonly urlFile: string }
  | { readonly kind: 'mail'; readonly to: readonly string[]; readonly from: string }

/** Somebody who is told what happens. */
export interface Receiver {
  readonly way: Way
  /** What it is called in messages: without what is secret. */
  readonly title: string
  /** Kinds of events that it is told of. */
  readonly kinds: readonly ((typeof toldOf)[number] | 'undone')[]
}

/**
 * An address that messages are sent to.
 * @returns what is wrong with it, or nothing
 */
export function wrongWithAddress(text: string): string | undefined {
  const url = URL.parse(text)
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:')) return 'it is no https:// address'
  if (url.protocol === 'http:' && !isLoopback(url.hostname)) return 'plain http goes to loopback only'
  return url.username || url.password ? 'a name and a password in it would be seen by everybody' : undefined
}

const address = z.string().superRefine((text, context) => {
  const wrong = wrongWithAddress(text)
  // It is not quoted: a password may stand in it.
  if (wrong !== undefined) context.addIssue({ code: 'custom', message: wrong })
})
/** Neither a second header nor an option of sendmail's. */
const mailbox = z
  .string()
  .refine(
    text => /^[\w.+%'/=?^{}~!#$&*-]+@[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text) && !text.startsWith('-'),
    {
      error: ({ input }) => `${shown(input)} is no address such as ops@example.com`,
    },
  )
const file = z.string().min(1)

export const receiverShapes = {
  webhook: z.strictObject({ url: address, secret_file: file }),
  slack: z.strictObject({ url_file: file }),
  mail: z.strictObject({
    to: z.union([mailbox, z.array(mailbox).min(1)]).transform(one => [one].flat()),
    from: mailbox,
  }),
}

export const receiverShape = z
  .strictObject({
    webhook: receiverShapes.webhook.optional(),
    slack: receiverShapes.slack.optional(),
    mail: receiverShapes.mail.optional(),
    on: z
      .array(z.enum(toldOf))
      .min(1)
      .default([...usual]),
  })
  .transform(({ webhook, slack, mail, on }, context): Receiver => {
    const ways: Way[] = [
      ...(webhook ? [{ kind: 'webhook' as const, url: webhook.url, secretFile: webhook.secret_file }] : []),
      ...(slack ? [{ kind: 'slack' as const, urlFile: slack.url_file }] : []),
      ...(mail ? [{ kind: 'mail' as const, ...mail }] : []),
    ]
    const [way] = ways
    if (!way || ways.length > 1) {
      context.addIssue({ code: 'custom', message: 'each has one of webhook, slack and mail' })
      return z.NEVER
    }
    return {
      way,
      title: titleOf(way),
      kinds: on.flatMap(kind => (kind === 'failed' ? (['failed', 'undone'] as const) : [kind])),
    }
  })

function titleOf(way: Way): string {
  if (way.kind === 'webhook') return `webhook ${new URL(way.url).origin}`
  return way.kind === 'slack' ? `slack of ${way.urlFile}` : `mail to ${way.to.join(', ')}`
}
