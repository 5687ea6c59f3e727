// A playbook for `masters`, `nodes` and `etcd` over an inventory that calls them otherwise, by the command line.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { workbench } from '../cli/_rekey.ts'

/** A workbench with an inventory as Kubespray has it: groups around groups, addresses of its own, a master that runs pods too. */
function kubespray() {
  const bench = workbench('local', undefined, true)
  const folder = join(bench.folder, 'inventory')
  mkdirSync(join(folder, 'group_vars', 'k8s_cluster'), { recursive: true })
  writeFileSync(
    join(folder, 'inventory.ini'),
    `[kube_control_plane]
node1 ansible_connection=local ip=10.3.0.1 access_ip=192.0.2.1 etcd_member_name=etcd1
node2 ansible_connection=local ip=10.3.0.2 access_ip=192.0.2.2 etcd_member_name=etcd2
[etcd:children]
kube_control_plane
[kube_node]
node2
node3 ansible_connection=local ip=10.3.0.3
[k8s_cluster:children]
kube_control_plane
kube_node
[bastion]
# node9 ansible_host=192.0.2.9
`,
  )
  writeFileSync(
    join(folder, 'group_vars', 'k8s_cluster', 'k8s-cluster.yml'),
    'kube_config_dir: /etc/kubernetes\nkube_cert_dir: "{{ kube_config_dir }}/ssl"\nlocal_release_dir: "{{ ansible_env.HOME }}/releases"\n',
  )
  mkdirSync(join(folder, 'group_vars', 'all'))
  writeFileSync(join(folder, 'group_vars', 'all', 'rekey.yml'), `rekey_directory: ${join(bench.folder, 'on-hosts')}\n`)
  const log = join(bench.folder, 'log')
  const said = () => {
    const lines = readFileSync(log, 'utf8').trim().split('\n').sort()
    writeFileSync(log, '')
    return lines
  }
  const playbook = bench.playbook(`
    import { appendFileSync, existsSync } from 'node:fs'
    import { play, playbook, step } from API
    import { z } from ZOD
    const say = text => appendFileSync(${JSON.stringify(log)}, text + '\\n')
    const names = hosts => hosts.map(({ name }) => name).join('+')
    export default playbook({
      name: 'roles', summary: 'who is who', vars: z.object({}), services: () => ({}),
      plays: [
        play('Machines', { hosts: 'masters:nodes' }, [step('Say', {
          run: ({ host }) => say(host.name + ' ' + host.groups.filter(name => ['masters', 'nodes', 'etcd'].includes(name)).join('+')),
          rollback: ({ host }) => say('undo ' + host.name),
        })]),
        play('Masters', { hosts: 'masters' }, [step('Once', { runOnce: true, run: ctx => {
          say([ctx.host.name, 'once', names(ctx.hosts('etcd')), names(ctx.hosts('nodes:!masters')), ctx.on === undefined].join(' '))
          if (!existsSync(${JSON.stringify(join(bench.folder, 'healed'))})) throw new Error('not yet')
        } })]),
      ],
    })`)
  return { bench, folder, playbook, said }
}

const notice =
  'by the groups of the inventory, masters: kube_control_plane (2 hosts); nodes: kube_node (2 hosts); etcd: etcd (2 hosts)'

test.serial(
  'a Kubespray inventory works as it lies: run, --limit, resume and rollback; the run says once which groups it took',
  async t => {
    const { bench, folder, playbook, said } = kubespray()
    const failed = await bench.rekey(['run', playbook, '-i', folder, '--output', 'plain'])
    t.is(failed.code, 2, failed.stderr)
    t.is(failed.stdout.split(notice).length, 2, failed.stdout)
    t.deepEqual(said(), [
      'node1 etcd+masters',
      'node1 once node1+node2 node3 false',
      'node2 etcd+masters+nodes',
      'node3 nodes',
    ])
    const journal = () => readFileSync(join(bench.runs()[0]!, 'events.jsonl'), 'utf8')
    t.is(journal().split(notice).length, 2)
    // The lock is on the masters, by what they are called here.
    t.regex(readFileSync(join(bench.folder, 'on-hosts', 'audit.log'), 'utf8'), /started/)
    bench.touch('healed')
    const resumed = await bench.rekey(['resume', 'last'])
    t.is(resumed.code, 0, resumed.stderr)
    t.deepEqual(said(), ['node1 once node1+node2 node3 false'])
    const undone = await bench.rekey(['rollback', 'last', '--output', 'plain'])
    t.is(undone.code, 0, undone.stderr)
    t.deepEqual(said(), ['undo node1', 'undo node2', 'undo node3'])
    t.is(journal().split(notice).length, 4)

    const limited = await bench.rekey(['run', playbook, '-i', folder, '--limit', 'nodes:!masters', '--list-hosts'])
    t.is(limited.code, 0, limited.stderr)
    t.is(limited.stdout, 'Machines [masters:nodes]\n  node3\n')
    t.true(limited.stderr.includes(notice))
  },
)

test.serial('-e says who they are; none and contradictions are one error before anything is connected', async t => {
  const { bench, folder, playbook, said } = kubespray()
  bench.touch('healed')
  const given = await bench.rekey([
    'run',
    playbook,
    '-i',
    folder,
    '-e',
    'rekey_masters=node3',
    '-e',
    'rekey_etcd=node1',
    '--output',
    'plain',
  ])
  t.is(given.code, 0, given.stderr)
  t.regex(given.stdout, /masters: node3 \(1 host\); nodes: kube_node \(2 hosts\); etcd: node1 \(1 host\)/)
  t.deepEqual(said(), ['node2 nodes', 'node3 masters+nodes', 'node3 once node1 node2 false'])
  writeFileSync(join(folder, 'more.ini'), '[controllers]\nnode3\n')
  const both = await bench.rekey(['run', playbook, '-i', folder])
  t.is(both.code, 1)
  t.regex(
    both.stderr,
    /the masters may be the group kube_control_plane \(2 hosts\) or the group controllers \(1 host\): they are not the same hosts/,
  )
  t.is(bench.runs().length, 1)
  const none = await bench.rekey(['run', playbook, '-i', 'node1,node2,'])
  t.is(none.code, 1)
  t.regex(none.stderr, /the inventory has no masters: .*\n.*rekey_masters/)
})

test.serial('rekey certs asks the API through the masters of the inventory, and tells where it has none', async t => {
  const { bench, folder } = kubespray()
  const found = await bench.rekey(['certs', 'node3', '-i', folder, '--folder', folder])
  t.is(found.code, 2)
  t.true(found.stderr.includes(notice))
  t.regex(found.stderr, /what the API keeps is left out: .*node1/)
  const none = await bench.rekey(['certs', '-i', 'node3,', '-e', 'ansible_connection=local'])
  t.is(none.code, 2)
  t.regex(none.stderr, /what the API keeps is left out: the inventory has no masters/)
})
