// Copies of the cluster's CA that somebody put aside are no files of the keyset, unless something names them.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { Truster } from '../../../lib/pki/keyset.ts'
import { stateFrom } from '../../../lib/rotation/keysets/state.ts'
import { putAside } from '../../../lib/rotation/keysets/which/aside.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { localSession } from '../../kubernetes/_local.ts'

test('what is called by a date, saved, or a backup is left as it is, and named; of dated ones, what something names is not', async t => {
  const folder = temporaryFolder('aside')
  const used = join(folder, 'pki-2021', 'ca.crt')
  mkdirSync(join(folder, 'pki-2021'))
  writeFileSync(used, 'CA')
  const reader = spawn('tail', ['-f', used], { stdio: 'ignore' })
  t.teardown(() => reader.kill())
  await once(reader, 'spawn')
  const k = '/etc/kubernetes'
  const left = [
    ...[`${k}/pki/ca.crt.20240101`, `${k}/pki-2021/ca.crt`, `${k}/pki.save/ca.crt`, `${k}/pki_2023-05-01/ca.crt`],
    ...[
      `${k}/tenant.conf.20240101`,
      `${k}/ca.crt-2024-01-01T12:00:00Z`,
      `${k}/pki-backup/ca.crt`,
      '/root/.kube/config',
    ],
  ]
  // The administrator's, whose home it lies in, is the cluster's.
  const own = [
    '/root/admin.kubeconfig',
    `${k}/admin.conf`,
    '/var/lib/kubelet/probe-ca.pem',
    '/opt/v2/ca-1.28.crt',
    used,
  ]
  const trusters = [...left, ...own].map(
    (path): Truster => ({ where: `m1:${path}`, host: 'm1', kind: 'copy', directions: ['clients'], holds: [] }),
  )
  const said: string[] = []
  const session = await localSession()
  const ctx = {
    ...{ vars: { keysets: ['kubernetes-ca'] }, hosts: () => [{ name: 'm1' }], on: async () => session },
    log: (line: string) => said.push(line),
    registered: () => ({
      specs: [{ id: 'admin', hosts: ['m1'], place: { kind: 'kubeconfig', path: '/root/admin.kubeconfig' } }],
    }),
  }
  const aside = await putAside(ctx as never, trusters)
  t.deepEqual([...aside].toSorted(), left.map(path => `m1:${path}`).toSorted())
  t.is(said.length, left.length)
  // A link says what that says to which it leads; one to somebody's own is told.
  said.length = 0
  const reals = new Map([
    ['m1:/root/.kube/config', 'm1:/root/admin.kubeconfig'],
    [`m1:${k}/ca.crt-2024-01-01T12:00:00Z`, `m1:${k}/pki-backup/ca.crt`],
  ])
  t.deepEqual(await putAside(ctx as never, trusters, reals), aside)
  t.is(said.length, left.length - 1)
  t.false(said.some(line => line.startsWith('m1:/root/.kube/config ')))
  const known = { issuers: new Map(), kept: new Set<string>(), aside }
  const { bundles } = stateFrom('kubernetes-ca', { trusters, uses: [] }, undefined, known)
  t.deepEqual(Object.keys(bundles['m1'] ?? {}), own)
})
