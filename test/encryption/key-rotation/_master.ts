import { createHash } from 'node:crypto'
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { secret } from '../../../lib/connection/shell.ts'
import type { Context } from '../../../lib/encryption/key-rotation/given.ts'
import { plan } from '../../../lib/encryption/key-rotation/prepare.ts'
import type { FoundComponent } from '../../../lib/kubernetes/layout/host-layout.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { found, localHost, unit } from '../../kubernetes/components/_host.ts'
import { base64Key } from '../_configuration.ts'
import { type Gateway, gatewayOf } from '../_gateway.ts'

export const keys = (kind: string, ...names: string[]) =>
  `      - ${kind}:\n          keys:\n${names.map(name => `            - name: ${name}   # of mine\n              secret: ${base64Key()}\n`).join('')}`

export interface Master {
  readonly ctx: Context
  readonly file: string
  readonly folder: string
  readonly apiServer: FoundComponent
  readonly etcd: Gateway
  readonly text: () => string
  /** What the server says of its reloads, and of the hash that it has; that of the file where nothing is said. */
  says: { failures: number; hash?: string; asked?: () => void }
}

interface Around {
  readonly flags?: FoundComponent['flags']
  /** What lies in etcd. */
  readonly values?: Readonly<Record<string, string>>
  /** What its API server answers beside its metrics. */
  readonly answers?: object
  /** Where it serves. */
  readonly port?: number
  /** Whether the file's name is a link to where it lies. */
  readonly linked?: boolean
  /** Whether its API server takes up its file by itself. */
  readonly reloads?: boolean
}

export const sha = (text: string | Buffer) => createHash('sha256').update(text).digest('hex')
const core = ['secrets', 'configmaps'].map(name => ({ name, namespaced: true, verbs: ['list', 'patch'] }))

/** A master with a file, and an API server that has it in force at once. */
export async function master(
  t: ExecutionContext,
  text: string,
  vars: Partial<Context['vars']> = {},
  { flags = {}, values = {}, answers = {}, port = 6443, linked = false, reloads = true }: Around = {},
): Promise<Master> {
  const { session, folder } = await localHost(t)
  const file = join(folder, 'encryption.yaml')
  const real = linked ? join(folder, 'real.yaml') : file
  writeFileSync(real, text, { mode: 0o640 })
  if (linked) symlinkSync('real.yaml', file)
  const hash = () => sha(readFileSync(file))
  const says: Master['says'] = { failures: 0 }
  const getText = async () => {
    says.asked?.()
    return `apiserver_encryption_config_controller_last_config_info{hash="sha256:${says.hash ?? hash()}"} 1
apiserver_encryption_config_controller_automatic_reloads_total{status="failure"} ${says.failures}\n`
  }
  const apiServer = found({
    ...{ component: 'kube-apiserver', runs: unit('kube-apiserver'), flags },
    endpoints: [{ address: '127.0.0.1', port, role: 'serving' }],
    files: [{ role: 'encryption', by: '', path: file, real }],
  })
  const gateway = await gatewayOf(t, new Map(Object.entries(values).map(([key, one]) => [key, Buffer.from(one)])))
  const listens = [`http://127.0.0.1:${gateway.access.client.port}`]
  const etcd = found({ component: 'etcd', runs: unit('etcd'), flags: { 'listen-client-urls': listens } })
  const registered = new Map<string, unknown>([
    [
      'read-encryption',
      { layout: { host: 'm1', components: { 'kube-apiserver': apiServer, etcd } }, file, hash: hash(), reloads },
    ],
    ['make-the-key', { secret: secret(base64Key()) }],
  ])
  const get = async (path: string) => (path === '/apis' ? { groups: [] } : { resources: core })
  const api = { get, list: async () => [] }
  const ctx = {
    ...session,
    ...{ run: 'r', vars: { backup_directory: join(folder, 'backups'), ...vars }, signal: new AbortController().signal },
    hosts: () => [session.host],
    on: async () => session,
    log: () => {},
    registered: (step: string) => registered.get(step),
    cluster: { apiOf: async () => ({ getText, ...answers }), apiServerReady: async () => {}, api: async () => api },
  } as unknown as Context
  registered.set('plan-the-key', await plan.run(ctx))
  return { ctx, file, folder, apiServer, etcd: gateway, text: () => readFileSync(file, 'utf8'), says }
}

/** Runs steps, one after the other. */
export const run = (ctx: Context, ...steps: StepDefinition<Context>[]) =>
  steps.reduce<Promise<unknown>>((before, one) => before.then(() => one.run(ctx)), Promise.resolve())
