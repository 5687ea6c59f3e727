// What is found on hosts of the layouts that are met, and what is refused there.
import test from 'ava'
import type { HostFailedError } from '../../../lib/errors.ts'
import { discoveredFrom } from '../../../lib/kubernetes/layout/discover.ts'
import type { ComponentName, HostLayout } from '../../../lib/kubernetes/layout/host-layout.ts'
import {
  foundText,
  hardWayNode,
  hardWayServer,
  inPod,
  kubeadmMaster,
  kubeadmWords,
  kubeaszMaster,
  kubesprayMaster,
  type Machine,
  running,
  staticPods,
  together,
  unit,
} from './_found.ts'

const layoutOf = (machine: Machine) => discoveredFrom(foundText(machine), 'm1').layout
const filesOf = ({ components }: HostLayout, component: ComponentName) =>
  components[component]?.files.map(({ role, path, key }) => `${role} ${path}${key ? ` ${key.path}` : ''}`)
const refusal = (machine: Machine) => {
  try {
    return layoutOf(machine)
  } catch (error) {
    return error as HostFailedError
  }
}

test('kubeadm: static pods and a unit, with every file by its role', t => {
  const layout = layoutOf(kubeadmMaster)
  t.deepEqual(Object.keys(layout.components), [
    'kube-apiserver',
    'kube-controller-manager',
    'kube-scheduler',
    'etcd',
    'kubelet',
  ])
  const { etcd, kubelet } = layout.components
  t.deepEqual(etcd?.runs, { kind: 'static-pod', manifest: '/etc/kubernetes/manifests/etcd.yaml' })
  t.deepEqual(etcd?.processes, [100])
  t.deepEqual(etcd?.endpoints, [
    { address: '127.0.0.1', port: 2379, role: 'serving' },
    { address: '10.0.0.1', port: 2380, role: 'peer' },
  ])
  t.deepEqual(kubelet?.runs, {
    kind: 'unit',
    unit: 'kubelet.service',
    definition: ['/lib/systemd/system/kubelet.service', '/usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf'],
    environmentFiles: ['/var/lib/kubelet/kubeadm-flags.env', '/etc/default/kubelet'],
    type: 'simple',
  })
  t.deepEqual(filesOf(layout, 'kubelet'), [
    'client-ca /etc/kubernetes/pki/ca.crt',
    'kubeconfig /etc/kubernetes/kubelet.conf',
    'config /var/lib/kubelet/config.yaml',
    'serving /var/lib/kubelet/pki/kubelet.crt /var/lib/kubelet/pki/kubelet.key',
    'client /var/lib/kubelet/pki/kubelet-client-current.pem /var/lib/kubelet/pki/kubelet-client-current.pem',
  ])
  t.is(kubelet?.files.at(-1)?.real, '/var/lib/kubelet/pki/kubelet-client-2026-11-28-10-00-00.pem')
  t.is(kubelet?.files[0]?.by, 'authentication.x509.clientCAFile')
  t.true(
    filesOf(layout, 'kube-controller-manager')?.includes(
      'signing /etc/kubernetes/pki/ca.crt /etc/kubernetes/pki/ca.key',
    ),
  )
  t.deepEqual(
    Object.values(layout.components).flatMap(({ drift }) => drift),
    [],
  )
})

test('Kubespray: etcd is told all by its environment, and pki is a link', t => {
  const layout = layoutOf(kubesprayMaster)
  const { etcd } = layout.components
  t.like(etcd?.runs, { kind: 'unit', unit: 'etcd.service', type: 'notify', environmentFiles: ['/etc/etcd.env'] })
  t.deepEqual(filesOf(layout, 'etcd'), [
    'serving /etc/ssl/etcd/ssl/member-m1.pem /etc/ssl/etcd/ssl/member-m1-key.pem',
    'client-ca /etc/ssl/etcd/ssl/ca.pem',
    'peer /etc/ssl/etcd/ssl/member-m1.pem /etc/ssl/etcd/ssl/member-m1-key.pem',
    'peer-ca /etc/ssl/etcd/ssl/ca.pem',
    'etcd-ca /etc/ssl/etcd/ssl/ca.pem',
    'etcd-client /etc/ssl/etcd/ssl/admin-m1.pem /etc/ssl/etcd/ssl/admin-m1-key.pem',
  ])
  t.is(etcd?.files[1]?.by, 'ETCD_TRUSTED_CA_FILE')
  t.deepEqual(
    etcd?.endpoints.map(({ address, port }) => `${address}:${port}`),
    ['127.0.0.1:2379', '10.0.0.1:2380'],
  )
  t.deepEqual(etcd?.drift, [])
  const kubeletCa = layout.components.kubelet?.files[0]
  t.is(kubeletCa?.path, '/etc/kubernetes/pki/ca.crt')
  t.is(kubeletCa?.real, '/etc/kubernetes/ssl/ca.crt')
  t.true(
    filesOf(layout, 'kube-apiserver')?.includes(
      'etcd-client /etc/ssl/etcd/ssl/node-m1.pem /etc/ssl/etcd/ssl/node-m1-key.pem',
    ),
  )
})

test('the hard way: units, no kubelet on servers, etcd without TLS, no front proxy', t => {
  const layout = layoutOf(hardWayServer)
  t.deepEqual(Object.keys(layout.components), ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'etcd'])
  t.deepEqual(layout.components.etcd?.files, [])
  t.deepEqual(layout.components.etcd?.endpoints, [])
  t.deepEqual(layout.components.etcd?.flags['data-dir'], ['/var/lib/etcd'])
  t.deepEqual(filesOf(layout, 'kube-scheduler'), [
    'kubeconfig /var/lib/kubernetes/kube-scheduler.kubeconfig',
    'config /etc/kubernetes/config/kube-scheduler.yaml',
  ])
  const apiServer = layout.components['kube-apiserver']
  t.false(apiServer?.files.some(({ role }) => role.startsWith('front-proxy')))
  t.deepEqual(
    apiServer?.files.filter(({ path }) => path.endsWith('/kube-api-server.crt')).map(({ role }) => role),
    ['serving', 'kubelet-client'],
  )
})

test('the hard way: a kubelet with a plain file, a kube-proxy whose kubeconfig names files by its folder', t => {
  const layout = layoutOf(hardWayNode)
  t.deepEqual(filesOf(layout, 'kubelet'), [
    'serving /var/lib/kubelet/kubelet.crt /var/lib/kubelet/kubelet.key',
    'client-ca /var/lib/kubelet/ca.crt',
    'kubeconfig /var/lib/kubelet/kubeconfig',
    'config /var/lib/kubelet/kubelet-config.yaml',
  ])
  t.deepEqual(filesOf(layout, 'kube-proxy'), [
    'kubeconfig /var/lib/kube-proxy/kubeconfig',
    'config /var/lib/kube-proxy/kube-proxy-config.yaml',
    'client /var/lib/kube-proxy/kube-proxy.crt /var/lib/kube-proxy/kube-proxy.key',
  ])
})

test('kubeasz: one file under many flags', t => {
  const layout = layoutOf(kubeaszMaster)
  const roles = layout.components['kube-apiserver']?.files.filter(({ path }) => path === '/etc/kubernetes/ssl/ca.pem')
  t.deepEqual(
    roles?.map(({ role }) => role),
    ['client-ca', 'etcd-ca', 'kubelet-ca', 'front-proxy-ca', 'service-account-verify'],
  )
  t.deepEqual(
    layout.components.etcd?.endpoints.map(({ port }) => port),
    [2379, 2380],
  )
})

test('a component that is down is told by its manifest or its unit; one that is installed and off is none', t => {
  const pods = { ...kubeadmMaster, processes: [] }
  const { components } = layoutOf(pods)
  t.deepEqual(components['kube-apiserver']?.processes, [])
  t.is(components['kube-apiserver']?.files.length, 9)
  t.is(components.kubelet?.runs.kind, 'unit')
  t.deepEqual(components.kubelet?.flags['config'], ['/var/lib/kubelet/config.yaml'])
  const off = unit('etcd.service', '/usr/bin/etcd', { ActiveState: 'inactive', UnitFileState: 'disabled' })
  t.deepEqual(layoutOf({ units: [off] }).components, {})
})

test('paths in a static pod are the host’s by its mounts', t => {
  const pods = staticPods({ etcd: ['--cert-file=/certs/server.crt', '--key-file=/certs/server.key'] })
  const [path = ''] = Object.keys(pods.files)
  const text = pods.files[path]?.text?.replace('mountPath: /etc/kubernetes/pki', 'mountPath: /certs') ?? ''
  t.deepEqual(filesOf(layoutOf({ ...pods, files: { [path]: { text } } }), 'etcd'), [
    'serving /etc/kubernetes/pki/server.crt /etc/kubernetes/pki/server.key',
  ])
})

test('what a manifest or a unit says and its process does not do is told', t => {
  const words = kubeadmWords()['kube-scheduler']
  const pods = staticPods({ 'kube-scheduler': words })
  const [process] = pods.processes
  const drifted = { ...pods, processes: [{ ...process!, words: [...words.slice(1), '--v=4'] }] }
  t.deepEqual(layoutOf(drifted).components['kube-scheduler']?.drift, [
    '/etc/kubernetes/manifests/kube-scheduler.yaml has --authentication-kubeconfig=/etc/kubernetes/scheduler.conf, and its process does not',
    'its process has --v=4, and /etc/kubernetes/manifests/kube-scheduler.yaml does not',
  ])
  const { process: etcd } = running(7, 'etcd.service', '/usr/bin/etcd', ['--name', 'm1'])
  const edited = unit('etcd.service', '/usr/bin/etcd --name m2', {
    NeedDaemonReload: 'yes',
    EnvironmentFiles: '/etc/etcd.env (ignore_errors=no)',
  })
  const environments = { '/etc/etcd.env': ['ETCD_CERT_FILE=/a', 'ETCD_INITIAL_CLUSTER_TOKEN=x'] }
  t.deepEqual(
    layoutOf({ processes: [{ ...etcd, environment: ['ETCD_CERT_FILE=/b'] }], units: [edited], environments }).components
      .etcd?.drift,
    [
      'etcd.service was changed, and systemd was not told (systemctl daemon-reload)',
      'etcd.service has --name=m2, and its process --name=m1',
      'the environment of etcd.service has --cert-file=/a, and its process --cert-file=/b',
    ],
  )
})

test('an environment file goes on over lines, and its words are those of the unit', t => {
  const words = ['--config=/etc/kubernetes/kubelet-config.yaml', '--kubeconfig=/etc/kubernetes/kubelet.conf', '--v=2']
  const { process } = running(8, 'kubelet.service', '/usr/local/bin/kubelet', words)
  const files = {
    '/etc/kubernetes/kubelet-config.yaml': { text: 'kind: KubeletConfiguration\nserverTLSBootstrap: true\n' },
    '/etc/kubernetes/kubelet.conf': { text: 'kind: Config\n' },
  }
  const environments = {
    '/etc/kubernetes/kubelet.env': ['KUBE_LOG_LEVEL="--v=2"', `KUBELET_ARGS="${words[0]} \\`, `${words[1]} \\`, '"'],
  }
  const { components } = layoutOf({
    processes: [process],
    units: [
      unit('kubelet.service', `/usr/local/bin/kubelet $KUBELET_ARGS ${'$'}{KUBE_LOG_LEVEL} $NOTHING`, {
        EnvironmentFiles: '/etc/kubernetes/kubelet.env (ignore_errors=yes)',
      }),
    ],
    environments,
    files,
  })
  t.deepEqual(components.kubelet?.drift, [])
  t.like(components.kubelet?.files.at(-1), {
    role: 'serving',
    by: 'serverTLSBootstrap',
    path: '/var/lib/kubelet/pki/kubelet-server-current.pem',
  })
})

test('etcd’s configuration file counts alone', t => {
  const { process, unit } = running(9, 'etcd.service', '/usr/bin/etcd', [
    '--config-file',
    '/etc/etcd/etcd.yml',
    '--cert-file=/ignored',
  ])
  const text = `listen-client-urls: https://127.0.0.1:2379
client-transport-security:
  cert-file: /etc/etcd/a.pem
  key-file: /etc/etcd/a.key
  trusted-ca-file: /etc/etcd/ca.pem
`
  const layout = layoutOf({ processes: [process], units: [unit], files: { '/etc/etcd/etcd.yml': { text } } })
  t.deepEqual(filesOf(layout, 'etcd'), [
    'serving /etc/etcd/a.pem /etc/etcd/a.key',
    'client-ca /etc/etcd/ca.pem',
    'config /etc/etcd/etcd.yml',
  ])
  t.is(layout.components.etcd?.files[0]?.by, 'client-transport-security.cert-file')
})

test('a kubelet’s configuration goes on in the pieces of a folder, of which the last one counts', t => {
  const folder = '/etc/kubernetes/kubelet.conf.d'
  const { process, unit } = running(9, 'kubelet.service', '/usr/bin/kubelet', [
    '--config=/var/lib/kubelet/config.yaml',
    `--config-dir=${folder}`,
  ])
  const says = (text: string) => ({ text: `kind: KubeletConfiguration\n${text}` })
  const layout = layoutOf({
    processes: [process],
    units: [unit],
    files: {
      [`${folder}/20-own.conf`]: says('tlsCertFile: /etc/node/node.crt\ntlsPrivateKeyFile: /etc/node/node.key\n'),
      [`${folder}/10-ca.conf`]: says(
        'tlsCertFile: /not/this.crt\nauthentication: {x509: {clientCAFile: /etc/node/ca.crt}}\n',
      ),
      [`${folder}/30-note.txt`]: says('tlsCertFile: /nor/this.crt\n'),
      '/var/lib/kubelet/config.yaml': says('authentication: {x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}}\n'),
    },
  })
  t.deepEqual(filesOf(layout, 'kubelet'), [
    'serving /etc/node/node.crt /etc/node/node.key',
    'client-ca /etc/node/ca.crt',
    'config /var/lib/kubelet/config.yaml',
    `config ${folder}/10-ca.conf`,
    `config ${folder}/20-own.conf`,
  ])
})

test('kube-proxy of a DaemonSet is a pod, and names no file of the host', t => {
  const { components } = layoutOf({
    processes: [
      {
        pid: 5,
        exe: '/usr/local/bin/kube-proxy',
        cgroup: inPod('a'),
        words: ['--config=/var/lib/kube-proxy/config.conf'],
      },
    ],
  })
  t.like(components['kube-proxy'], { runs: { kind: 'pod' }, files: [], processes: [5] })
})

const process = (exe: string, cgroup: string, ...words: string[]) => ({ pid: 3, exe, cgroup, words })

for (const [what, machine, code, message, hint = /./] of [
  [
    'k3s',
    { processes: [process('/usr/local/bin/k3s', '/system.slice/k3s.service', 'server')] },
    'layout.distribution',
    /^m1 runs k3s, /,
    /: k3s certificate rotate-ca/,
  ],
  [
    'RKE2',
    { processes: [process('/usr/local/bin/rke2', '/system.slice/rke2-server.service', 'server')] },
    'layout.distribution',
    /^m1 runs RKE2, /,
    /: rke2 certificate rotate-ca/,
  ],
  [
    'MicroK8s',
    { processes: [process('/snap/microk8s/1/kubelite', '/system.slice/snap.microk8s.daemon-kubelite.service')] },
    'layout.distribution',
    /^m1 runs MicroK8s, /,
    /: microk8s refresh-certs/,
  ],
  [
    'k0s',
    { processes: [process('/usr/local/bin/k0s', '/system.slice/k0scontroller.service', 'controller')] },
    'layout.distribution',
    /^m1 runs k0s, /,
    /docs\.k0sproject\.io/,
  ],
  [
    'a machine of DOKS',
    {
      processes: [
        process('/usr/bin/kubelet', '/system.slice/kubelet.service', '--node-labels=doks.digitalocean.com/node-pool=a'),
      ],
    },
    'layout.owned',
    /^m1 is a machine of DOKS, /,
    /docs\.digitalocean\.com/,
  ],
  [
    'a machine of EKS',
    {
      processes: [
        process('/usr/bin/kubelet', '/system.slice/kubelet.service', '--node-labels=eks.amazonaws.com/nodegroup=a'),
      ],
    },
    'layout.owned',
    /^m1 is a machine of EKS, /,
    /docs\.aws\.amazon\.com\/eks/,
  ],
  [
    'a machine of GKE',
    {
      processes: [
        process(
          '/usr/bin/kubelet',
          '/system.slice/kubelet.service',
          '--node-labels',
          'a=b,cloud.google.com/gke-nodepool=c',
        ),
      ],
    },
    'layout.owned',
    /^m1 is a machine of GKE, /,
    /: gcloud container clusters update NAME --start-credential-rotation/,
  ],
  [
    'a machine of AKS',
    {
      processes: [
        process(
          '/usr/bin/kubelet',
          '/system.slice/kubelet.service',
          '--node-labels=agentpool=a,kubernetes.azure.com/mode=system',
        ),
      ],
    },
    'layout.owned',
    /^m1 is a machine of AKS, /,
    /: az aks rotate-certs/,
  ],
  [
    'a machine of kOps',
    {
      processes: [
        process('/usr/bin/kubelet', '/system.slice/kubelet.service', '--node-labels=kops.k8s.io/instancegroup=nodes-a'),
      ],
    },
    'layout.owned',
    /^m1 is a machine of kOps, /,
    /: rekey run rotate-kops /,
  ],
  [
    'k3s that is down',
    { units: [unit('k3s.service', '/usr/local/bin/k3s server', { ActiveState: 'failed' })] },
    'layout.distribution',
    /^m1 runs k3s, /,
    /: k3s certificate rotate-ca/,
  ],
  [
    'etcd in a container that somebody runs',
    { processes: [process('/usr/local/bin/etcd', '/system.slice/docker-0a1b.scope')] },
    'layout.unknown-shape',
    /in a container \(docker-0a1b.scope\)/,
  ],
  [
    'a component that was started by hand',
    { processes: [process('/usr/bin/kubelet', '/user.slice/user-0.slice/session-3.scope')] },
    'layout.unknown-shape',
    /kubelet \(process 3\) in session-3.scope/,
  ],
  [
    'a unit that starts a script',
    {
      processes: [process('/usr/bin/kubelet', '/system.slice/kubelet.service')],
      units: [unit('kubelet.service', '/opt/start-kubelet.sh')],
    },
    'layout.wrapper',
    /^kubelet.service of m1 starts \/opt\/start-kubelet.sh, and not kubelet itself/,
  ],
  [
    'a second etcd',
    {
      processes: [
        process('/usr/bin/etcd', '/system.slice/etcd.service'),
        process('/usr/bin/etcd', '/system.slice/etcd-events.service'),
      ],
    },
    'layout.more-than-one',
    /etcd.service, etcd-events.service/,
  ],
  [
    'a control plane in pods',
    { processes: [process('/usr/bin/kube-apiserver', inPod('b'))] },
    'layout.unknown-shape',
    /in a pod that no manifest/,
  ],
  [
    'a configuration that is not there',
    { ...hardWayNode, files: {} },
    'layout.no-file',
    /^m1 has no \/var\/lib\/kubelet\/kubelet-config.yaml/,
  ],
] as (readonly [string, Machine, string, RegExp, RegExp?])[]) {
  test(`${what} is refused by name`, t => {
    const refused = refusal(machine) as HostFailedError
    t.is(refused.code, code)
    t.regex(refused.message, message)
    t.regex(refused.hint ?? 'none', hint)
  })
}

test('a reading that ended early is no reading', t => {
  const text = foundText(together(kubeadmMaster))
  t.throws(() => discoveredFrom(text.slice(0, -20), 'm1'), { message: /was not read to its end/ })
})
