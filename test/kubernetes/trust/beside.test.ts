// Certificates beside the plan, on this machine: whose they are, and whether anything names them.

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { besideThePlan, tellBeside } from '../../../lib/kubernetes/trust/beside.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { localSession } from '../_local.ts'

test('what another CA signed, what nothing names, and what a process names are told apart', async t => {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-beside-'))
  const path = (name: string) => join(folder, name)
  const [ca, other] = await Promise.all(['cluster', 'other'].map(name => issue({ name: `CN=${name}`, ca: true })))
  const of = async (name: string, issuer = ca) => (await issue({ name: `CN=${name}`, issuer })).pem
  const found = new Map([
    [path('oidc.crt'), await of('oidc', other)],
    [path('backup apiserver.crt'), await of('left')],
    [path('agent.crt'), await of('agent')],
  ])
  for (const [file, pem] of found) writeFileSync(file, pem)
  const agent = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60_000)', '--', `--cert=${path('agent.crt')}`])
  t.teardown(() => {
    agent.kill()
    rmSync(folder, { recursive: true, force: true })
  })
  const beside = await besideThePlan(await localSession(), found, [ca?.pem ?? ''])
  t.deepEqual(
    beside.map(({ path, kind, subject }) => [path, kind, subject]),
    [
      [path('oidc.crt'), 'foreign', 'CN=oidc'],
      [path('backup apiserver.crt'), 'leftover', 'CN=left'],
      [path('agent.crt'), 'in use', 'CN=agent'],
    ],
  )
  t.regex(beside[2]?.by ?? '', new RegExp(`^process ${agent.pid} \\(`))
  t.regex(tellBeside(beside)[0] ?? '', /no CA of the cluster signed it/)
})

test('what looks for who names a file is not found as one who does', async t => {
  const ca = await issue({ name: 'CN=cluster', ca: true })
  const { pem } = await issue({ name: 'CN=left', issuer: ca })
  // Once in a few a search of before was still there when its findings were looked at.
  const found = new Map(Array.from({ length: 24 }, (_, index) => [`/etc/ssl/left-${process.pid}-${index}.pem`, pem]))
  const beside = await besideThePlan(await localSession(), found, [ca.pem])
  t.deepEqual(
    beside.filter(({ kind }) => kind !== 'leftover').map(({ by }) => by),
    [],
  )
})
