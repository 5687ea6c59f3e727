// Waiting until a server knows somebody by a certificate, or refuses him.
import { HostFailedError } from '../../../errors.ts'
import { type Door, fittingFor, isKnown, type Visitor } from '../../../kubernetes/probes/doors.ts'
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
export const requireKnown = (
  ctx: OnHost,
  door: Door,
  visitor: Visitor & { what?: string },
  { name }: KeysetState,
  within = patience,
): Promise<void> =>
  inTime(
    ctx,
    waitFor(
      `${door.where} to know ${visitor.what ?? 'a client of the new CA'} (${name})`,
      { within, signal: ctx.signal },
      () => isKnown(door, visitor),
    ),
    {
      code: 'keysets.not-let-in',
      hint: 'Its file may hold the CA, and the server not have read it again: a hard link to the file, or one that was moved away and back, stops that until the server is restarted. An extension API server that reads the ConfigMap once needs a restart, too. Then go on with rekey resume, or undo with rekey rollback.',
    },
  )

/** Waits until a server refuses a visitor; throws `HostFailedError` where it does not in time. */
export const requireUnknown = (
  ctx: OnHost,
  door: Door,
  visitor: Visitor & { what?: string },
  { name }: KeysetState,
): Promise<void> =>
  inTime(
    ctx,
    waitFor(
      `${door.where} to refuse ${visitor.what ?? 'a client of the CA that is taken back'} (${name})`,
      { within: patience, signal: ctx.signal },
      async () => !(await isKnown(door, visitor)),
    ),
    {
      code: 'keysets.still-let-in',
      hint: 'It has not read its files again, or has them from elsewhere: restart it, and go on with rekey resume; or undo with rekey rollback.',
    },
  )

async function inTime({ signal }: OnHost, waited: Promise<unknown>, of: { code: string; hint: string }): Promise<void> {
  await waited.catch((cause: Error) => {
    signal.throwIfAborted()
    throw new HostFailedError(cause.message, { ...of, cause })
  })
}

/** Servers without those that did not answer when the stage began, and do not now: nobody can say whom they let in, and they stop nothing. */
export async function answering(ctx: OnHost, doors: readonly Door[], visitors: readonly Visitor[]): Promise<Door[]> {
  const noted = notedUnknowing(ctx)
  const asked = doors.map(async door => {
    const [visitor] = fittingFor(door, visitors)
    if (!noted(door)?.silent || !visitor) return [door]
    if (await wasInTime(answers(ctx, door, visitor, patienceForOthers), ctx.signal)) return [door]
    ctx.log(`${door.where} did not answer before, and does not now: whom it lets in is not known`)
    return []
  })
  return (await Promise.all(asked)).flat()
}
