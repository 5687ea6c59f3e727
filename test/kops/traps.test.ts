// What kops does silently wrong, ends with 0, and would let an operator walk on from: each stops the run, and says what to do.
import test from 'ava'
import { isOfKeypairs, pendingOf } from '../../lib/kops/asked/pending.ts'
import { brokenRotation } from '../../lib/kops/preflight.ts'
import { eventually } from '../_eventually.ts'
import { openCluster, settled } from './_cluster.ts'

test('a clock that is behind: the new key pair is older than the primary, which promote and distrust would not see', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.knobs['behind'] = true
  })
  const { code, out } = await bench.run('rotate-kops')
  t.is(code, 2)
  t.regex(out, /is not younger than its primary/)
  t.regex(out, /Set the clock, distrust that key pair by id/)
  t.deepEqual(bench.trusted(), ['0', '1*'])
  // What it made is distrusted on the way back, though it is older than the primary.
  const back = await bench.rekey('rollback', 'last')
  t.is(back.code, 0, back.out)
  t.deepEqual(bench.trusted(), ['1*'])
})

test('promote and distrust that do nothing and end with 0 are seen by the ids', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=staged')).code, 0)
  bench.change(state => {
    state.knobs['deaf'] = true
  })
  const promoted = await bench.run('rotate-kops')
  t.is(promoted.code, 2)
  t.regex(promoted.out, /has the primary \d{28} still, after it was promoted/)
  bench.change(state => {
    state.knobs = { deafDistrust: true }
  })
  const distrusted = await bench.rekey('resume', 'last')
  t.is(distrusted.code, 2)
  t.regex(distrusted.out, /has other trusted key pairs than its primary still: \d{28}/)
  bench.change(state => {
    state.knobs = {}
  })
  const done = await bench.rekey('resume', 'last')
  t.is(done.code, 0, done.out)
  t.deepEqual(bench.trusted(), ['2*'])
  settled(t, bench)
})

test('two key pairs that are staged: nobody but the operator knows which is meant', async t => {
  const bench = await openCluster(t)
  bench.change(({ keysets: { 'kubernetes-ca': set } }) => {
    set!.items.push({ id: '7713272286921922551637815766' }, { id: '7713272286921923551637815766' })
  })
  const { code, out } = await bench.run('rotate-kops')
  t.is(code, 2)
  t.regex(out, /has 2 trusted key pairs beside its primary/)
})

test('no instance needs an update after a promotion: it stops there, before the old CA is distrusted', async t => {
  const bench = await openCluster(t)
  t.is((await bench.run('rotate-kops', '-e', 'until=staged')).code, 0)
  bench.change(state => {
    state.knobs['blind'] = true
  })
  const { code, out } = await bench.run('rotate-kops')
  t.is(code, 2)
  t.regex(out, /no instance needs an update after key pairs were promoted/)
  t.regex(out, /--cloudonly --force --yes/)
  t.deepEqual(bench.trusted(), ['1', '2*'])
  // As the hint has it: by hand, and then gone on with.
  t.is((await bench.rekey('resume', 'last')).code, 2)
  bench.change(state => {
    state.instances = state.instances.map(one => ({
      ...{ ...one, id: `${one.id}-anew` },
      hash: state.applied[one.role] ?? '',
    }))
    state.live = state.told!
    state.knobs = {}
  })
  const done = await bench.rekey('resume', 'last')
  t.is(done.code, 0, done.out)
  t.deepEqual(bench.trusted(), ['2*'])
  settled(t, bench)
})

test('a rolling update that replaces nothing, and calls itself completed, with --cloudonly, too', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.knobs['idle'] = true
  })
  const { code, out } = await bench.run('rotate-kops', '-e', 'cloudonly=true')
  t.is(code, 2)
  t.regex(out, /calls the rolling update completed, and these were not replaced: i-cp \(control-plane-test\)/)
  t.regex(out, /not looked at +the API/)
  bench.change(state => {
    state.knobs = {}
  })
  const done = await bench.rekey('resume', 'last')
  t.is(done.code, 0, done.out)
  t.true(bench.calls().includes('rolling-update cluster --cloudonly --yes'))
  const none = await openCluster(t)
  none.change(state => {
    state.instances = []
  })
  t.regex((await none.run('rotate-kops')).out, /kops sees no instance of this cluster/)
})

test('instances that join in the middle of a stage are found and replaced; where they go on joining, it stops', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.knobs['joins'] = 1
    state.knobs['joinsWhileRolling'] = 1
    state.spec['clusterAutoscaler'] = { enabled: true }
    state.groups = [{ metadata: { name: 'spot' }, spec: { minSize: 1, maxSize: 9 } }]
  })
  const { code, out } = await bench.run('rotate-kops', '-e', 'until=staged')
  t.is(code, 0, out)
  t.regex(out, /joined in the middle of the stage, with the configuration of before: i-joined-1/)
  t.regex(out, /cluster-autoscaler: instances that it adds/)
  t.regex(out, /scaled by +cluster-autoscaler; group spot/)
  settled(t, bench)
  bench.change(state => {
    state.knobs['joinsWhileRolling'] = 50
  })
  const failed = await bench.run('rotate-kops')
  t.is(failed.code, 2)
  t.regex(failed.out, /go on joining with the configuration of before/)
})

test('what others left pending stops the run and is shown, before it begins and in the middle', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.foreign = true
  })
  const before = await bench.run('rotate-kops')
  t.is(before.code, 2)
  t.regex(before.out, /would apply what is pending, before anything was begun/)
  t.regex(before.out, /modify LaunchTemplate\/nodes-test\.test\.k8s\.local: InstanceType/)
  t.deepEqual(
    bench.calls().filter(call => call.startsWith('create')),
    [],
  )
  bench.change(state => {
    state.foreign = false
    state.knobs['foreignAfterCreate'] = true
  })
  const middle = await bench.run('rotate-kops')
  t.is(middle.code, 2)
  t.regex(middle.out, /would apply more than key pairs/)
  t.deepEqual(
    bench.calls().filter(call => call.includes('--yes')),
    [],
  )
  const accept = JSON.stringify({ accept: ['pending/LaunchTemplate/nodes-test.test.k8s.local'] })
  const accepted = await bench.run('rotate-kops', '-e', 'until=staged', '-e', accept)
  t.is(accepted.code, 0, accepted.out)
  // Machines that run with another configuration than their groups have would be replaced on the way.
  const behind = await openCluster(t)
  behind.change(state => {
    state.instances[1]!.hash = 'of before'
  })
  t.regex(
    (await behind.run('rotate-kops')).out,
    /1 instances run with another configuration than their groups have: i-a/,
  )
})

test('a kops of another version than the cluster, and one whose rotations are known to break etcd, are refused', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.version = '1.35.0'
  })
  const other = await bench.run('rotate-kops')
  t.is(other.code, 2)
  t.regex(other.out, /is 1\.35\.0, and test\.k8s\.local was last updated by 1\.36\.2/)
  t.deepEqual(bench.calls(), ['version'])
  const words = (one: [number, number, number]) => brokenRotation(one)
  t.regex(words([1, 21, 5]) ?? '', /no graceful rotation/)
  for (const one of [
    [1, 22, 1],
    [1, 23, 2],
    [1, 24, 0],
  ] as [number, number, number][])
    t.regex(words(one) ?? '', /14037/)
  for (const one of [
    [1, 23, 3],
    [1, 24, 1],
    [1, 36, 2],
  ] as [number, number, number][])
    t.is(words(one), undefined)
})

test('an endpoint that does not answer: every call has an end, and says what it waited for', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.knobs['hangs'] = 'update cluster'
  })
  const { code, out } = await bench.run('rotate-kops', '-e', 'update_within=2s')
  t.is(code, 2)
  t.regex(out, /waited 2 s for the cloud to say what differs/)
  const missing = await bench.run('rotate-kops', '-e', 'kops_binary=/nonexistent/kops')
  t.regex(missing.out, /\/nonexistent\/kops can't be run/)
  const short = await openCluster(t)
  t.regex((await short.run('rotate-kops', '-e', 'admin=1h')).out, /would end before a rolling update does/)
  t.regex((await short.run('rotate-kops', '-e', 'keysets=kubelet')).out, /there is no keyset kubelet/)
})

test('who is promoted back, or changes anything, while it soaks: nothing is distrusted', async t => {
  const bench = await openCluster(t, ['kubernetes-ca'])
  t.is((await bench.run('rotate-kops', '-e', 'until=promoted')).code, 0)
  bench.change(state => {
    state.knobs['hangs'] = 'validate cluster'
  })
  const soaking = bench.run('rotate-kops', '-e', 'soak=1s')
  await eventually(
    () => bench.calls().filter(call => call.startsWith('validate')).length >= 4,
    'the run, on its way to the soak',
  )
  bench.change(state => {
    state.keysets['kubernetes-ca']!.primary = state.keysets['kubernetes-ca']!.items[0]!.id
    state.knobs = {}
  })
  const { code, out } = await soaking
  t.is(code, 2)
  t.regex(out, /kubernetes-ca has the primary \d{28} again/)
  bench.change(state => {
    state.keysets['kubernetes-ca']!.primary = state.keysets['kubernetes-ca']!.items[1]!.id
    state.foreign = true
  })
  const changed = await bench.rekey('resume', 'last')
  t.is(changed.code, 2)
  t.regex(changed.out, /changes of before are not rolled out: modify LaunchTemplate/)
  t.deepEqual(
    bench.calls().filter(call => call.startsWith('distrust')),
    [],
  )
})

test('gates are passed by what the API and the kubeconfigs show, whatever kops has called done', async t => {
  const bench = await openCluster(t, ['kubernetes-ca'])
  const ids = () => bench.state().keysets['kubernetes-ca']!.items.map(({ id }) => id)
  const stops = async (called: ReturnType<typeof bench.run>, message: RegExp, ...trusted: string[]) => {
    const { code, out } = await called
    t.is(code, 2, out)
    t.regex(out, message)
    t.deepEqual(bench.trusted(), trusted)
  }
  const goOn = (live: { primary: string; trusted: string[] } | undefined, ...knobs: string[]) => {
    bench.change(state => {
      if (live) state.live = live
      state.knobs = Object.fromEntries(knobs.map(name => [name, true]))
    })
    return bench.rekey('resume', 'last')
  }
  bench.change(state => {
    state.knobs['exportsPrimary'] = true
  })
  await stops(bench.run('rotate-kops', '-e', 'validate_within=1s'), /holds one CA, where there are two/, '1*', '2')
  await stops(
    goOn(undefined, 'keepsOldApi'),
    /waited 1 s for the API to let in its admin with the new CA alone: /,
    '1',
    '2*',
  )
  const [old, made] = ids() as [string, string]
  const both = { primary: made, trusted: [old, made] }
  await stops(goOn(both, 'exportsAll'), /the kubeconfig holds 2 CAs, where one is left/, '2*')
  await stops(
    goOn(both),
    /waited 1 s for the API to refuse the admin credential of before: 127\.0\.0\.1 answered 200/,
    '2*',
  )
  const done = await goOn({ primary: made, trusted: [made] })
  t.is(done.code, 0, done.out)
  settled(t, bench)
})

test('what is pending is the key pairs’ by its lines, and never the specification', t => {
  const hash = `${'3q2+7w'.repeat(7)}a=`
  const certificate = [64, 64, 12].map(length => `+ ${'MIIBqz'.repeat(11).slice(0, length)}`)
  const said = (kind: string, name: string, field: string, ...lines: string[]) => {
    const shown = lines.map(line => `  \t${' '.repeat(20)}\t${line}\n`).join('')
    const [found] = pendingOf(
      `Will modify resources:\n  ${kind}/${name}\n${field && `  \t${field.padEnd(20)}\n`}${shown}`,
    )
    return isOfKeypairs(found!)
  }
  t.true(said('LaunchTemplate', 'nodes', 'UserData', `- NodeupConfigHash: ${hash}`, `+ NodeupConfigHash: ${hash}`))
  // As kops 1.36.2 shows it: what stands around a certificate is no change.
  t.true(
    said(
      'LaunchTemplate',
      'nodes',
      'UserData',
      `+     ${'MIIBqz'.repeat(11).slice(0, 64)}`,
      '    - https://kops-controller:3988/',
    ),
  )
  // Where much differs, it shows all of the text as taken out and put in again.
  const anew = (version: string, ...more: string[]) => {
    const text = (last: string) => ['CAs:', '  ca: |', `    ${'MIIBqz'.repeat(10)}Wxyz`, `    ${last}`, ...more]
    const old = [...text('c29tZQ=='), 'packages:', '- socat', 'KubernetesVersion: 1.35.0']
    const next = [...text('b3RoZXI='), 'packages:', '- socat', `KubernetesVersion: ${version}`]
    return [...old.map(line => `- ${line}`), ...next.map(line => `+ ${line}`)]
  }
  t.true(said('ManagedFile', 'nodeupconfig-nodes', 'Contents', ...anew('1.35.0')))
  t.false(said('ManagedFile', 'nodeupconfig-nodes', 'Contents', ...anew('1.36.0')))
  // What stands in another list than before is a change.
  t.false(
    said(
      'ManagedFile',
      'nodeupconfig-nodes',
      'Contents',
      ...['- allowed:', '- - 10.0.0.1', '- denied:', '- - 10.0.0.2'],
      ...['+ allowed:', '+ denied:', '+ - 10.0.0.1', '+ - 10.0.0.2'],
    ),
  )
  t.true(said('ManagedFile', 'nodeupconfig-nodes', 'Contents', '+   kubernetes-ca: "7713272286921920551637815766"'))
  t.true(said('ManagedFile', 'nodeupconfig-nodes', 'Contents', '+ -----BEGIN CERTIFICATE-----', ...certificate))
  t.true(
    said(
      'ManagedFile',
      'keys.json',
      'Contents',
      '+ {',
      '+   "kty": "RSA",',
      `+   "n": "${hash}",`,
      '+   "e": "AQAB"',
      '+ },',
    ),
  )
  t.true(
    said('ManagedFile', 'test-addons-bootstrap', 'Contents', `+     manifestHash: ${'0123456789abcdef'.repeat(4)}`),
  )
  for (const foreign of [
    said(
      'ManagedFile',
      'cluster-completed.spec',
      'Contents',
      '- kubernetesVersion: 1.34.1',
      '+ kubernetesVersion: 1.35.0',
    ),
    said('ManagedFile', 'cluster-completed.spec', 'Contents'),
    said('ManagedFile', 'nodeupconfig-nodes', 'Contents', '+ KubernetesVersion: 1.35.0'),
    said('ManagedFile', 'test-addons-coredns.addons.k8s.io-k8s-1.12', 'Contents'),
    said('LaunchTemplate', 'nodes', 'UserData', '+ image: ami-0123456789abcdef0'),
    said('LaunchTemplate', 'nodes', ''),
  ])
    t.false(foreign)
  // What goes only with --prune is not applied; without anything else kops says that --yes is needed, all the same.
  const kept = 'Items will be deleted only when the --prune flag is specified:\n  NetworkLoadBalancer  api.test\n\n'
  t.deepEqual(pendingOf(`${kept}Must specify --yes to apply changes`), [])
  const [gone, another] = pendingOf(`${kept}Items will be deleted during update:\n  SecurityGroupRule    ssh\n\n`)
  t.like(gone, { how: 'delete', kind: 'SecurityGroupRule', name: 'ssh' })
  t.is(another, undefined)
})

test('a cloud where no replacement can be seen is refused before anything is changed', async t => {
  const bench = await openCluster(t)
  bench.change(state => {
    state.instances[1]!.id = 'https://www.googleapis.com/compute/v1/projects/p/zones/z/instances/nodes-1'
  })
  const { code, out } = await bench.run('rotate-kops')
  t.is(code, 2, out)
  t.regex(out, /in a way by which nobody sees that it was replaced/)
  t.false(bench.calls().some(call => /^create|--yes/.test(call)))
})
