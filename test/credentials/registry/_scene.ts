// A cluster of one node whose container runtime pulls from a registry that knows whom it lets in, and an API server with Secrets: steps are run on it one by
// one, and what they return is registered.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { registry as pieces } from '../../../lib/credentials/index.ts'
import type { Context, Variables } from '../../../lib/credentials/registry/given.ts'
import { eachField } from '../../../lib/operations/grpc/protobuf.ts'
import type { StepDefinition } from '../../../lib/playbook/model.ts'
import { pluginAt } from '../../encryption/_plugin.ts'
import { type StandIn, startApiServer } from '../../kubernetes/api/_api-server.ts'
import { localHost } from '../../kubernetes/components/_host.ts'

const look = pieces.lookAtNode(ctx => ctx.registered('read-the-certificates')!)

/** The steps of the playbook, in their order, without those that look at the log. */
export const before = [pieces.read, look, pieces.planFiles, pieces.everyNode, pieces.find, pieces.noteLog]
export const both = [pieces.without, pieces.old, pieces.proven('before')]
export const change = [pieces.putIntoSecrets, pieces.putIntoFiles, pieces.proven('after')]
export const counted = pieces.counted('count')

export const registry = 'reg.example.com:5000'
export const image = `${registry}/team/app:1`
export const base64 = (text: string): string => Buffer.from(text).toString('base64')
const auth = (user: string, password: string) => base64(`${user}:${password}`)

/** A text as Docker writes it, with an entry for another registry. */
export const configOf = (user: string, password: string): string =>
  JSON.stringify({
    auths: { 'other.example.com': { auth: 'b3RoZXI6eHg=' }, [registry]: { auth: auth(user, password) } },
  })

export interface Scene {
  readonly server: StandIn
  readonly ctx: Context
  readonly folder: string
  /** Whom the registry lets in, `user:password`; an empty text stands for anybody. */
  readonly lets: Set<string>
  /** Who asked it, in order. */
  readonly asked: string[]
  readonly said: string[]
  /** Runs steps, one after the other, and registers what they return. */
  run(...steps: readonly StepDefinition<Context>[]): Promise<void>
  text(namespace: string, name: string): string
}

/** @param ask what a runtime says where the registry does not let somebody in, `user:password`; empty where it does. By `lets` where none is given */
export async function scene(
  t: ExecutionContext,
  vars: Partial<Variables> = {},
  check = false,
  ask?: (who: string) => string,
): Promise<Scene> {
  const { session, folder } = await localHost(t)
  const server = await startApiServer()
  t.teardown(server.close)
  const lets = new Set(['robot:first-one', 'robot-2:second-one'])
  const asked: string[] = []
  const socket = join(folder, 'runtime.sock')
  await pluginAt(t, socket, {
    ImageStatus: () => [],
    PullImage: fields => {
      const own = new Map<number, string>()
      eachField(fields.get(2) ?? Buffer.alloc(0), (field, bytes) => own.set(field, Buffer.from(bytes).toString()))
      const who = own.size > 0 ? `${own.get(1)}:${own.get(2)}` : ''
      asked.push(who)
      const denied =
        'failed to pull and unpack image: failed to authorize: failed to fetch anonymous token: 401 Unauthorized'
      return (ask ? ask(who) : lets.has(who) ? '' : denied) || [[1, 'sha256:0']]
    },
  })
  server.put('/api/v1/nodes', { metadata: { name: 'm1' } })
  server.put('/api/v1/namespaces/shop/pods', { metadata: { name: 'web' }, spec: { containers: [{ image }] } })
  const file = join(folder, 'new-credential')
  writeFileSync(file, 'robot-2:second-one\n', { mode: 0o600 })
  mkdirSync(join(folder, 'kubelet'))
  const registered = new Map<string, unknown>()
  const said: string[] = []
  const kubelet = {
    flags: { 'root-dir': [join(folder, 'kubelet')], 'container-runtime-endpoint': [`unix://${socket}`] },
  }
  registered.set('read-the-certificates', {
    nodeName: 'm1',
    layout: { host: 'm1', components: { kubelet: { ...kubelet, processes: [] } } },
  })
  const ctx = {
    ...session,
    ...{ check, signal: new AbortController().signal, log: (line: string) => void said.push(line) },
    vars: {
      ...{
        registry,
        registry_user: 'robot',
        registry_new_file: file,
        accept: [],
        pull_within: 20_000,
        kubelet_cache: 0,
      },
      ...{ registry_quiet: 300, registry_quiet_within: 0, ...vars },
    },
    hosts: () => [session.host],
    on: async () => session,
    registered: (step: string) => registered.get(step),
    cluster: { api: async () => server.api, nodes: async () => server.api.list('/api/v1/nodes') },
  } as unknown as Context
  return {
    ...{ server, ctx, folder, lets, asked, said },
    run: async (...steps) => {
      for (const one of steps) {
        if (one.when && !(await one.when(ctx))) continue
        const returned = await one.run(ctx)
        if (one.id !== undefined) registered.set(one.id, returned)
        await one.verify?.(ctx)
      }
    },
    text: (namespace, name) => {
      const data = server.get(`/api/v1/namespaces/${namespace}/secrets/${name}`)?.['data'] ?? {}
      return Buffer.from(data['.dockerconfigjson'] ?? data['.dockercfg'] ?? '', 'base64').toString()
    },
  }
}

/** Puts a pull Secret there. */
export function putSecret(server: StandIn, name: string, text: string, more: object = {}): void {
  const [namespace, own] = name.split('/')
  const { metadata, ...rest } = more as { metadata?: object }
  server.put(`/api/v1/namespaces/${namespace}/secrets`, {
    metadata: { name: own!, ...metadata },
    type: 'kubernetes.io/dockerconfigjson',
    data: { '.dockerconfigjson': base64(text) },
    ...rest,
  })
}
