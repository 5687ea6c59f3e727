// Who may present to the API what an old CA signed: components whose process is older than the certificate that lies there.
import { execFileSync } from 'node:child_process'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import type { RekeyError } from '../../../../lib/errors.ts'
import type { FoundComponent } from '../../../../lib/kubernetes/layout/host-layout.ts'
import { conditionsStep, planStep, readingStep } from '../../../../lib/rotation/given/found.ts'
import { allPresentTheNew } from '../../../../lib/rotation/keysets/index.ts'
import { lookStep } from '../../../../lib/rotation/keysets/state.ts'
import { found, localHost, unit } from '../../../kubernetes/components/_host.ts'
import { issue } from '../../../pki/certificates/_certificates.ts'

/** A master whose controller-manager and kubelet are clients of the API; each of their processes is that of the one unit that there is. */
async function master(t: ExecutionContext) {
  const { session, folder } = await localHost(t)
  const { name } = session.host
  const kubeconfig = join(folder, 'controller-manager.conf')
  const current = join(folder, 'kubelet-client-current.pem')
  const { pem } = await issue({ name: 'CN=system:node:m1' })
  const file = (role: 'kubeconfig' | 'client' | 'serving', path: string) => ({ role, by: role, path, real: path })
  const component = (named: Partial<FoundComponent> & Pick<FoundComponent, 'component'>) =>
    found({ runs: unit('kube-controller-manager'), flags: { 'cert-dir': [folder] }, ...named })
  const components = {
    'kube-controller-manager': component({
      component: 'kube-controller-manager',
      files: [file('kubeconfig', kubeconfig)],
    }),
    kubelet: component({ component: 'kubelet', files: [file('client', current)] }),
    'kube-proxy': component({
      ...{ component: 'kube-proxy', runs: { kind: 'pod' } },
      files: [file('kubeconfig', kubeconfig)],
    }),
  } as const
  const spec = (id: string, place: object) => ({ id, hosts: [name], usages: ['clientAuth'], place })
  const specs = [
    spec('controller-manager', { kind: 'kubeconfig', path: kubeconfig }),
    spec('kubelet-client', { kind: 'combined', path: current }),
    // Nobody who runs goes by it.
    spec('admin', { kind: 'kubeconfig', path: join(folder, 'admin.conf') }),
  ]
  const layout = { host: name, components }
  const files: Record<string, { real: string }> = {}
  const reading = { host: name, nodeName: 'm1', certificates: { [current]: pem }, files, layout }
  const registered: Record<string, unknown> = {
    [lookStep]: [
      { name: 'kubernetes-ca', authority: 'kubernetes', items: [{ state: 'primary' }, { state: 'trusted' }] },
    ],
    [planStep]: { specs },
    [readingStep]: reading,
  }
  const [said, accept]: [string[], string[]] = [[], []]
  let ends = new Date(0)
  const metrics = () =>
    `kubelet_certificate_manager_client_ttl_seconds ${Math.trunc((ends.getTime() - Date.now()) / 1_000)}\n`
  const ctx = {
    ...session,
    ...{ vars: { accept }, check: false, signal: new AbortController().signal },
    log: (line: string) => said.push(line),
    hosts: () => [session.host],
    on: async () => session,
    registered: (step: string) => registered[step],
    cluster: { api: async () => ({ getText: async () => metrics() }) },
  } as never
  return {
    ...{ ctx, name, said, accept, registered, folder, kubeconfig, reading },
    asked: async () => allPresentTheNew.run(ctx),
    /** A promotion puts a certificate in place; what it holds is older. */
    replace: async (which: 'kubeconfig' | 'kubelet') => {
      const path = which === 'kubeconfig' ? kubeconfig : current
      execFileSync('sh', ['-c', `echo a >"$1.new"; touch -d @1 "$1.new"; mv -f "$1.new" "$1"`, 'sh', path])
      await delay(60)
    },
    restart: async () => {
      await session.$`systemctl restart kube-controller-manager.service`
      await delay(60)
    },
    stop: () =>
      session.$`kill $(cat ${join(folder, 'pid')}); while readlink /proc/$(cat ${join(folder, 'pid')})/exe; do sleep 0.02; done`,
    /** What the kubelet has in memory ends with what lies there. */
    holdsIt: () => {
      ends = new Date(execFileSync('openssl', ['x509', '-noout', '-enddate'], { input: pem }).toString().slice(9))
    },
    touchOthers: () => writeFileSync(join(folder, 'admin.conf'), 'another'),
  }
}

test('whatever runs since before its certificate was replaced is named by host; started anew it is not', async t => {
  const { name, asked, replace, restart, accept, said, touchOthers } = await master(t)
  await replace('kubeconfig')
  await replace('kubelet')
  await restart()
  await t.notThrowsAsync(asked)
  touchOthers()
  await t.notThrowsAsync(asked, 'nobody who runs goes by it')
  await replace('kubeconfig')
  const error = await t.throwsAsync<RekeyError>(asked, { code: 'keysets.behind' })
  t.true(error?.message.endsWith(`: kube-controller-manager of ${name}`), error?.message)
  t.regex(
    error?.hint ?? '',
    /^.* Restart them, .*run promote-keysets again, .*accept: \[client\/[^/]+\/kube-controller-manager\]\.$/,
  )
  accept.push(`client/${name}/*`)
  await asked()
  t.regex(said.at(-1) ?? '', /^kube-controller-manager of .*: accepted$/)
  accept.length = 0
  await restart()
  await t.notThrowsAsync(asked)
})

test('a kubelet that has made its certificate itself since presents that, by its own metrics; one that was given it does not', async t => {
  const { name, asked, replace, restart, holdsIt } = await master(t)
  await replace('kubeconfig')
  await restart()
  await replace('kubelet')
  const error = await t.throwsAsync<RekeyError>(asked, { code: 'keysets.behind' })
  t.true(error?.message.endsWith(`: kubelet of ${name}`), error?.message)
  holdsIt()
  await t.notThrowsAsync(asked)
})

test('what does not run presents nothing, and a node that was accepted as away is left out', async t => {
  const { asked, replace, restart, stop, registered, said } = await master(t)
  await restart()
  await replace('kubeconfig')
  await replace('kubelet')
  registered[conditionsStep] = { absent: ['m1'] }
  await asked()
  t.regex(said.join(), /is left out/)
  registered[conditionsStep] = { absent: [] }
  await t.throwsAsync(asked, { code: 'keysets.behind' })
  await stop()
  await t.notThrowsAsync(asked)
})

test('what a link leads to counts, where that was replaced', async t => {
  const { asked, replace, restart, folder, kubeconfig, reading } = await master(t)
  await replace('kubelet')
  writeFileSync(join(folder, 'elsewhere.conf'), '')
  symlinkSync('elsewhere.conf', kubeconfig)
  reading.files[kubeconfig] = { real: join(folder, 'elsewhere.conf') }
  await restart()
  await t.notThrowsAsync(asked)
  writeFileSync(join(folder, 'elsewhere.conf'), 'another')
  await t.throwsAsync(asked, { code: 'keysets.behind', message: /: kube-controller-manager of [^,]+$/ })
})

test('a run about other keysets, or before anything was promoted, asks nobody', async t => {
  const { ctx, registered } = await master(t)
  t.true(await allPresentTheNew.when?.(ctx))
  registered[lookStep] = [{ name: 'kubernetes-ca', authority: 'kubernetes', items: [{ state: 'primary' }] }]
  t.false(await allPresentTheNew.when?.(ctx))
  registered[lookStep] = [{ name: 'front-proxy-ca', authority: 'front-proxy', items: [{ state: 'trusted' }] }]
  t.false(await allPresentTheNew.when?.(ctx))
})
