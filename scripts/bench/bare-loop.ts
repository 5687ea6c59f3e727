// The program of runners/bare.ts.
import { readFileSync } from 'node:fs'
import { NodeSSH } from 'node-ssh'
import type { BenchHost } from './hosts.ts'
import { type Job, stepCommand } from './jobs.ts'

type BareJob = Extract<Job, { kind: 'steps' }> & {
  log: string
  user: string
  privateKey: string
  hosts: BenchHost[]
}

const job = JSON.parse(process.env['REKEY_BENCH_JOB'] ?? '') as BareJob
const privateKey = readFileSync(job.privateKey, 'utf8')

const clients = await Promise.all(
  job.hosts.map(async ({ address, port }) => {
    const client = new NodeSSH()
    await client.connect({ host: address, port, username: job.user, privateKey, readyTimeout: 120_000 })
    client.connection?.setNoDelay(true)
    return client
  }),
)
for (let step = 1; step <= job.steps; step++) {
  const command = stepCommand(step, job, job.log)
  const results = await Promise.all(clients.map(client => client.execCommand(command)))
  if (results.some(({ code }) => code !== 0)) throw new Error(`step ${step} failed`)
}
for (const client of clients) client.dispose()
