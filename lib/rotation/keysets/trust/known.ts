// Waiting until a server knows somebody by a certificate, or refuses him.
import { HostFailedError } from '../../../errors.ts'
import { type Door, isKnown, type Visitor } from '../../../kubernetes/probes/doors.ts'
import { waitFor, wasInTime } from '../../../operations/wait.ts'
import { type OnHost, seconds } from '../../given/context.ts'
import type { KeysetState } from '../state.ts'
import { notedUnknowing } from '../which/unknowing.ts'

/** How long a server may take until it has read its files again, or heard of it from the API; or until it is back, where it is just being started anew. */
export const patience = seconds(75)
/** The same for one that need not be there. */
export const patienceForOthers = seconds(20)

/** Whether a server knows a visitor, once it answers at all: a controller-manager that has lost its lease is away for some seconds. */
export async function answers({ signal }: OnHost, door: Door, visitor: Visitor, within: number): Promise<boolean> {
  const { known } = await waitFor(`${door.where} to answer`, { within, signal }, async () => ({
    known: await isKnown(door, visitor),
  }))
  return known
}

/** Waits until a server knows a visitor; throws `HostFailedError` where it does not in time. */
export async function requireKnown(
  ctx: OnHost,
  door: Door,
  visitor: Visitor & { what?: string },
  { name }: KeysetState,
  within = patience,
) {
  await waitFor(
    `${door.where} to know ${visitor.what ?? 'a client of the new CA'} (${name})`,
    { within, signal: ctx.signal },
    () => isKnown(door, visitor),
  ).catch((error: Error) => {
    ctx.signal.throwIfAborted()
    throw new HostFailedError(error.message, {
      code: 'keysets.not-let-in',
      hint: 'Its file may hold the CA, and the server not have read it again: a hard link to the file, or one that was moved away and back, stops that until the server is restarted. An extension API server that reads the ConfigMap once needs a restart, too. Then go on with rekey resume, or undo with rekey rollback.',
      cause: error,
    })
  })
}

/** Waits until a server refuses a visitor; throws `HostFailedError` where it does not in time. */
export async function requireUnknown(
  ctx: OnHost,
  door: Door,
  visitor: Visitor & { what?: string },
  { name }: KeysetState,
) {
  await waitFor(
    `${door.where} to refuse ${visitor.what ?? 'a client of the CA that is taken back'} (${name})`,
    { within: patience, signal: ctx.signal },
    async () => !(await isKnown(door, visitor)),
  ).catch((error: Error) => {
    ctx.signal.throwIfAborted()
    throw new HostFailedError(error.message, {
      code: 'keysets.still-let-in',
      hint: 'It has not read its files again, or has them from elsewhere: restart it, and go on with rekey resume; or undo with rekey rollback.',
      cause: error,
    })
  })
}

/** The same, but for a server that did not answer when the stage began, and does not now: nobody can say whom it lets in, and it stops nothing. */
export async function requireUnknownOrSilent(
  ctx: OnHost,
  door: Door,
  visitor: Visitor & { what?: string },
  state: KeysetState,
) {
  if (notedUnknowing(ctx)(door)?.silent) {
    const answering = answers(ctx, door, visitor, patienceForOthers)
    if (!(await wasInTime(answering, ctx.signal)))
      return ctx.log(`${door.where} did not answer before, and does not now: whom it lets in is not known`)
  }
  await requireUnknown(ctx, door, visitor, state)
}
