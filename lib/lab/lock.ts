// One rekey at a time works on a lab, and makes what all labs share. The lock is a socket in the kernel's own namespace of names: it is gone with
// the process that holds it, however that ends, and it answers whoever asks who that is.
import { createHash } from 'node:crypto'
import { connect, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { RekeyError } from '../errors.ts'
import { type Report, timed } from './progress.ts'

const address = (lab: string) => `\0rekey-lab-${lab}`

/** For how long the lock is asked for again while nobody answers for it, in milliseconds. */
const patience = 5_000

/**
 * Takes the lock of a lab for `doing`. Returns how to give it back.
 * Throws a `RekeyError` (`lab.busy`) that says which process has it, and what for.
 */
export async function lockLab(lab: string, doing: string): Promise<() => Promise<void>> {
  const until = performance.now() + patience
  for (;;) {
    const unlock = await take(lab, `rekey lab ${doing}`)
    if (unlock) return unlock
    const holder = await askHolder(lab)
    // A process that is being started has a copy of its parent's files until its program runs. Where one of these is a lock
    // that was given back in the meantime, nobody answers for it.
    if (holder === '' && performance.now() < until) {
      await delay(20)
      continue
    }
    throw new RekeyError(`lab '${lab}' is being worked on by ${holder || 'another process'}`, {
      code: 'lab.busy',
      hint: 'Wait for it to end.',
    })
  }
}

/** For how long something of the cache is waited for that another process makes, in milliseconds: a build may take an hour. */
const longest = 2 * 3_600_000

/**
 * Returns what `find` finds of something at a path of the cache, else what `make` makes there, which one process at a time does: whoever asks for the same
 * one meanwhile waits for it, and says so.
 * @throws RekeyError `lab.busy` where that takes two hours; and what `make` throws
 */
export async function madeOnce<Found>(
  { path, title }: { path: string; title: string },
  { find, make, report }: { find: () => Found | undefined; make: () => Promise<Found>; report: Report },
): Promise<Found> {
  // A name of the kernel's has 107 bytes.
  const name = `making ${createHash('sha256').update(path).digest('hex')}`
  let unlock = find() === undefined ? await take(name, title) : undefined
  if (!unlock && find() === undefined)
    await timed(report, `Wait for '${title}' of another rekey`, async detail => {
      const until = performance.now() + longest
      while (!unlock && find() === undefined) {
        const holder = await askHolder(name)
        if (holder !== '') detail(holder)
        if (performance.now() > until)
          throw new RekeyError(`'${title}' is being done by ${holder || 'another process'}, and does not end`, {
            code: 'lab.busy',
            hint: 'See what that process waits for, and end it where it hangs.',
          })
        await delay(500)
        unlock = await take(name, title)
      }
    })
  try {
    return find() ?? (await make())
  } finally {
    await unlock?.()
  }
}

async function take(lab: string, doing: string): Promise<(() => Promise<void>) | undefined> {
  const started = new Date().toISOString()
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.end(`process ${process.pid}, '${doing}', since ${started}`)
  })
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(address(lab), resolve)
    })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') return undefined
    throw error
  }
  server.unref()
  return () => new Promise(resolve => server.close(() => resolve()))
}

/** What the holder says of itself; nothing where there is none, or it has no time. */
async function askHolder(lab: string): Promise<string> {
  return new Promise(resolve => {
    let answer = ''
    const socket = connect(address(lab))
    socket.setTimeout(1000, () => socket.destroy())
    socket.on('data', chunk => {
      answer += chunk
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve(answer))
  })
}
