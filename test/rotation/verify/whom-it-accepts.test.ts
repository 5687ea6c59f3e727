// Whether an API server accepts what is old: one that is busy has accepted and refused nobody.
import test from 'ava'
import { HostFailedError } from '../../../lib/errors.ts'
import type { KubernetesApi } from '../../../lib/kubernetes/api/api.ts'
import type { OnHost } from '../../../lib/rotation/given/context.ts'
import { statusOf } from '../../../lib/rotation/verify.ts'

const ctx = { host: { name: 'm1' }, signal: new AbortController().signal } as OnHost

/** An API server that says these in turn; where it says nothing, it has no time. */
const saying = (...statuses: (number | undefined)[]) => {
  const left = [...statuses]
  const api = {
    statusOf: async () => {
      const status = left.shift()
      if (status === undefined) throw new HostFailedError('waited 10 s', { code: 'api.no-answer' })
      return status
    },
  } as unknown as KubernetesApi
  return { api, left }
}

test('one that does not answer, or not now, is asked again; what it says then counts', async t => {
  for (const last of [401, 200, 403]) {
    const { api, left } = saying(undefined, 503, 429, last)
    t.is(await statusOf(ctx, api, { token: 'old' }), last)
    t.deepEqual(left, [])
  }
})
