// Many Secrets in a lab's cluster, as clusters have that Helm and certificates fill: what is written anew object by object takes its time.
import { createHash } from 'node:crypto'
import { type Report, timed } from '../progress.ts'
import type { Shape } from '../shape.ts'
import { kubectl } from './cluster.ts'

/** Where they are. */
export const bulkNamespace = 'bulk'

/** How many a kubectl creates: as many as its client sends before it begins to space its requests. */
const atOnce = 250
/** How many kubectls run side by side. */
const sideBySide = 4

/** The name of a Secret by its number. */
const nameOf = (number: number) => `secret-${String(number).padStart(6, '0')}`

/** A Secret of 1.2 kB or so, as it lies in etcd: what it holds follows from its number. */
export function bulkSecret(number: number): object {
  const name = nameOf(number)
  const parts = Array.from({ length: 14 }, (_, part) => createHash('sha512').update(`${name}/${part}`).digest())
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: bulkNamespace },
    data: { content: Buffer.concat(parts).toString('base64') },
  }
}

/**
 * Fills the cluster of a lab up to `count` Secrets in the namespace `bulk`. Those that are there stay.
 * @throws RekeyError where kubectl fails
 */
export async function fillWithSecrets(shape: Shape, count: number, report: Report): Promise<void> {
  await timed(report, `${count} Secrets in the namespace ${bulkNamespace}`, async detail => {
    const namespace = { apiVersion: 'v1', kind: 'Namespace', metadata: { name: bulkNamespace } }
    await kubectl(shape, ['apply', '-f', '-'], { input: JSON.stringify(namespace) })
    const there = new Set(await secretNames(shape))
    const missing = Array.from({ length: count }, (_, index) => index + 1).filter(one => !there.has(nameOf(one)))
    const groups = Array.from({ length: Math.ceil(missing.length / atOnce) }, (_, index) =>
      missing.slice(index * atOnce, (index + 1) * atOnce),
    )
    let done = count - missing.length
    const work = async () => {
      for (let group = groups.shift(); group; group = groups.shift()) {
        const list = { apiVersion: 'v1', kind: 'List', items: group.map(bulkSecret) }
        // What they are is known: the schemas of the whole API would be fetched for each group otherwise.
        const words = ['create', '--validate=false', '--request-timeout=60s', '-f', '-']
        await kubectl(shape, words, { input: JSON.stringify(list), timeout: 300 })
        done += group.length
        detail(`${done} of ${count}`)
      }
    }
    // All have ended before anybody is told of the first that failed.
    for (const one of await Promise.allSettled(Array.from({ length: sideBySide }, work)))
      if (one.status === 'rejected') throw one.reason
  })
}

async function secretNames(shape: Shape): Promise<string[]> {
  const text = await kubectl(shape, ['-n', bulkNamespace, '--request-timeout=60s', 'get', 'secrets', '-o', 'name'], {
    timeout: 120,
  })
  return text.split('\n').map(line => line.replace('secret/', ''))
}
