// A lock is never nobody's: who is killed or cut off while it says who it is leaves none.
import { readdirSync } from 'node:fs'
import test from 'ava'
import type { Connection } from '../../lib/connection/connection.ts'
import { connectLocal } from '../../lib/connection/local.ts'
import type { Host } from '../../lib/playbook/host.ts'
import { thisProcess } from '../../lib/process-identity.ts'
import { acquireLock } from '../../lib/run/hosts/lock.ts'
import { temporaryFolder } from '../_temporary.ts'
import { localSettings } from '../operations/_operation.ts'

const holder = { run: 'r1', playbook: 'work', operator: 'me', process: thisProcess(), since: '2026-11-30T19:22:00Z' }

/** This machine, to whose commands only so many bytes of their input come through. */
function upTo(bytes: number): Connection {
  const here = connectLocal('h1', localSettings)
  return {
    ...here,
    spawn: (command, options) => {
      const remote = here.spawn(command, options)
      const end = remote.stdin.end.bind(remote.stdin)
      return Object.assign(remote, {
        stdin: Object.assign(remote.stdin, { end: (input?: Buffer) => end(input?.subarray(0, bytes)) }),
      })
    },
  }
}

for (const bytes of [0, 10]) {
  test(`of ${bytes} bytes of who locks a host comes no lock`, async t => {
    const directory = temporaryFolder('lock')
    const host = { name: 'h1', vars: { rekey_directory: directory } } as unknown as Host
    const lock = acquireLock({
      ...{ hosts: [host], open: async () => upTo(bytes), holder, take: false },
      ...{ signal: new AbortController().signal, notice: () => {} },
    })
    await t.throwsAsync(lock, { code: 'run.lock', message: /h1 can't be locked: who locks it did not arrive whole/ })
    t.deepEqual(readdirSync(directory), [])
  })
}
