// What is found in clusters that have been used for years: pods that nobody misses, webhooks of somebody who left, certificates beside
// the plan. Each state as the objects and files that make it, and what shows that it is there. Pure: nothing here touches a lab.
import { has, type Shape } from '../shape.ts'

/** A state that a lab's cluster can be put into. */
export interface State {
  /** One line: what is there afterwards. */
  readonly summary: string
  /** What is applied, in this order. */
  readonly objects?: readonly object[]
  /** Run on machines as root, with kubectl for the administrator on the masters. */
  readonly scripts?: readonly {
    readonly on: 'first master' | 'masters' | 'first node'
    readonly script: string
  }[]
  /** Why a lab can't be put into it; undefined where it can. */
  readonly impossible?: (shape: Shape) => string | undefined
  /** It keeps others from coming about, and is put there after them. */
  readonly last?: true
  /** A script on the first master that ends with 0 once the state is there. */
  readonly shown?: string
}

/** The namespaces in which the states' own objects are. Nothing in them counts when a lab is asked whether it is well. */
const stateNamespaces = ['batch', 'payments', 'leaving', 'operators', 'edge'] as const

/** Whether a namespace is one of the states'. */
export const isOfStates = (namespace: string): boolean => stateNamespaces.some(one => one === namespace)

const namespace = (name: (typeof stateNamespaces)[number], labels: Record<string, string> = {}) => ({
  apiVersion: 'v1',
  kind: 'Namespace',
  metadata: { name, labels },
})

const container = (name: string, args: readonly string[], more: object = {}) => ({
  ...{ name, args, image: 'rekey.lab/canary:1', imagePullPolicy: 'Never' },
  ...more,
})

const canary = (args: readonly string[]) => ({
  automountServiceAccountToken: false,
  terminationGracePeriodSeconds: 2,
  containers: [container('main', args)],
})

const podNamed = (name: string, namespace: string, spec: object) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace },
  spec,
})

const deployment = (name: string, namespace: string, spec: object) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, namespace },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec },
  },
})

const phaseIs = (phase: string, pods: string) =>
  `kubectl -n batch get pods ${pods} -o jsonpath='{.items[*].status.phase}{.status.phase}' | grep -qx ${phase}`

/** The bundles of the case: what stands in a caBundle beside the cluster's CA, and how it is written. $1 is the cluster's CA, $2 another. */
const bundles = {
  alone: 'cat "$1"',
  'first-of-two': 'cat "$1" "$2"',
  'second-of-two': 'cat "$2" "$1"',
  'with-a-comment': 'echo "# the CA of the cluster"; cat "$1"',
  crlf: 'sed "s/$/\\r/" "$1"',
  'without-a-newline': 'printf %s "$(cat "$1")"',
}

/** The names of the webhook configurations whose caBundle holds the cluster's CA, one for each way to write it. */
export const bundleNames = Object.keys(bundles)

/** Where the other CA of the bundles lies on the first master. */
export const otherAuthority = '/root/other-ca.crt'

// Nobody ever makes what these are asked about.
const webhook = (
  name: string,
) => `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration",
"metadata":{"name":"bundle-${name}"},"webhooks":[{"name":"${name}.found.example","admissionReviewVersions":["v1"],"sideEffects":"None",
"failurePolicy":"Ignore","clientConfig":{"url":"https://webhook.example","caBundle":"$(cat)"},
"rules":[{"apiGroups":["found.example"],"apiVersions":["*"],"operations":["CREATE"],"resources":["*"]}]}]}`

const makeOtherAuthority = `[ -e ${otherAuthority} ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \\
  -subj '/CN=another CA' -addext basicConstraints=critical,CA:TRUE -keyout /dev/null -out ${otherAuthority} 2>/dev/null`

const bundleScript = `set -e
${makeOtherAuthority}
bundle() { set -- /etc/kubernetes/pki/ca.crt ${otherAuthority} "$1"; case $3 in
${Object.entries(bundles)
  .map(([name, make]) => `${name}) ${make} ;;`)
  .join('\n')}
esac; }
${bundleNames
  .map(
    name =>
      `encoded=$(bundle ${name} | base64 -w0); kubectl apply -f - >/dev/null <<END\n${webhook(name).replace('$(cat)', '$encoded')}\nEND`,
  )
  .join('\n')}`

/** A conversion that nobody asks for, and a bundle in a CRD. */
const conversionScript = `set -e
${makeOtherAuthority}
encoded=$(cat ${otherAuthority} /etc/kubernetes/pki/ca.crt | base64 -w0)
kubectl apply -f - >/dev/null <<END
{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"widgets.found.example"},
"spec":{"group":"found.example","scope":"Namespaced","names":{"plural":"widgets","singular":"widget","kind":"Widget"},
"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}],
"conversion":{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v1"],
"clientConfig":{"url":"https://webhook.example","caBundle":"$encoded"}}}}}
END`

/** Everything that a lab can be filled with, by name. */
export const states: Readonly<Record<string, State>> = {
  'failed-job': {
    summary: 'a pod of a Job, Failed',
    objects: [
      namespace('batch'),
      {
        apiVersion: 'batch/v1',
        kind: 'Job',
        metadata: { name: 'nightly', namespace: 'batch' },
        spec: {
          backoffLimit: 0,
          template: {
            metadata: { labels: { app: 'nightly' } },
            spec: { ...canary(['no-such-command']), restartPolicy: 'Never' },
          },
        },
      },
    ],
    shown: phaseIs('Failed', '-l app=nightly'),
  },
  'pending-pod': {
    summary: 'a pod that no node will ever take, Pending',
    objects: [
      namespace('batch'),
      podNamed('waiting', 'batch', { ...canary(['serve']), nodeSelector: { 'found.example/gpu': 'yes' } }),
    ],
    shown: phaseIs('Pending', 'waiting'),
  },
  'evicted-pod': {
    summary: 'a pod that its kubelet evicted, Failed',
    objects: [
      namespace('batch'),
      podNamed('greedy', 'batch', {
        ...canary([]),
        containers: [
          container('writer', ['call-service', '-url=http://localhost/'], {
            volumeMounts: [{ name: 'results', mountPath: '/results' }],
          }),
          // One that is killed has not Succeeded.
          container('slow', ['serve', '-linger=1m']),
        ],
        // What is counted there is more than that.
        volumes: [{ name: 'results', emptyDir: { sizeLimit: '1' } }],
      }),
    ],
    shown: `kubectl -n batch get pod greedy -o jsonpath='{.status.phase} {.status.reason}' | grep -qx 'Failed Evicted'`,
  },
  'changing-secrets': {
    summary:
      'an operator that changes a Secret, makes one and removes one each second (its Deployment: operators/secret-writer)',
    objects: [
      namespace('operators'),
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'secret-writer', namespace: 'operators' } },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'Role',
        metadata: { name: 'secret-writer', namespace: 'operators' },
        rules: [{ apiGroups: [''], resources: ['secrets'], verbs: ['create', 'patch', 'delete'] }],
      },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: 'secret-writer', namespace: 'operators' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'secret-writer' },
        subjects: [{ kind: 'ServiceAccount', name: 'secret-writer', namespace: 'operators' }],
      },
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'changing', namespace: 'operators' } },
      deployment('secret-writer', 'operators', {
        ...canary(['write-secrets', '-namespace=operators', '-api=https://$(KUBERNETES_SERVICE_HOST)']),
        automountServiceAccountToken: true,
        serviceAccountName: 'secret-writer',
      }),
    ],
    shown: `kubectl -n operators get secrets -o name | grep -q /release-v`,
  },
  'ca-bundles': {
    summary: `webhook configurations and a CRD whose caBundle is ${bundleNames.join(', ')}`,
    scripts: [
      { on: 'first master', script: bundleScript },
      { on: 'first master', script: conversionScript },
    ],
  },
  'dead-webhook': {
    summary:
      'a webhook with failurePolicy: Fail and nobody behind it, for pods and Deployments of the namespace payments',
    objects: [
      namespace('payments', { 'found.example/guarded': 'yes' }),
      deployment('ledger', 'payments', canary(['serve'])),
    ],
    scripts: [
      {
        on: 'first master',
        // What it guards must be there before it.
        script: `set -e
kubectl -n payments rollout status deployment/ledger --timeout=90s >/dev/null
kubectl apply -f - >/dev/null <<'END'
{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"guard"},
"webhooks":[{"name":"guard.found.example","admissionReviewVersions":["v1"],"sideEffects":"None","failurePolicy":"Fail","timeoutSeconds":5,
"namespaceSelector":{"matchLabels":{"found.example/guarded":"yes"}},
"clientConfig":{"service":{"namespace":"payments","name":"guard","path":"/"}},
"rules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE","UPDATE"],"resources":["pods"]},
{"apiGroups":["apps"],"apiVersions":["v1"],"operations":["CREATE","UPDATE"],"resources":["deployments"]}]}]}
END`,
      },
    ],
    shown: `kubectl -n payments annotate deployment ledger found.example/asked=yes 2>&1 | grep -q 'failed calling webhook'`,
  },
  'stuck-namespace': {
    summary: 'a namespace that is Terminating for ever, by a finalizer of somebody who left',
    objects: [
      namespace('leaving'),
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'held', namespace: 'leaving', finalizers: ['found.example/gone'] },
      },
    ],
    scripts: [{ on: 'first master', script: 'kubectl delete namespace leaving --wait=false >/dev/null' }],
    shown: `kubectl get namespace leaving -o jsonpath='{.status.phase}' | grep -qx Terminating`,
  },
  'strict-budget': {
    summary: 'a PodDisruptionBudget that allows no disruption, for CoreDNS and the canaries',
    objects: [
      ...[
        ['kube-system', { 'k8s-app': 'kube-dns' }],
        ['canary', { app: 'web' }],
      ].map(([namespace, matchLabels]) => ({
        apiVersion: 'policy/v1',
        kind: 'PodDisruptionBudget',
        metadata: { name: 'never', namespace },
        spec: { maxUnavailable: 0, selector: { matchLabels } },
      })),
    ],
  },
  'cordoned-node': {
    summary: 'the last node, cordoned',
    last: true,
    impossible: ({ nodes }) =>
      nodes < 2 ? 'the lab has one node, and without it nothing can be started anew' : undefined,
    scripts: [
      { on: 'first master', script: 'kubectl cordon $(kubectl get nodes -o name | sort | tail -n 1) >/dev/null' },
    ],
  },
  'foreign-static-pod': {
    summary: 'a static pod of somebody else on the first master and the first node',
    objects: [namespace('edge')],
    scripts: (['first master', 'first node'] as const).map(on => ({
      on,
      script: `mkdir -p /etc/kubernetes/manifests
cat >/etc/kubernetes/manifests/edge-proxy.yaml <<'END'
${JSON.stringify(podNamed('edge-proxy', 'edge', { ...canary(['serve', '-listen=127.0.0.1:18080']), hostNetwork: true, tolerations: [{ operator: 'Exists' }] }))}
END
chmod 600 /etc/kubernetes/manifests/edge-proxy.yaml`,
    })),
    shown: `test "$(kubectl -n edge get pods -o jsonpath='{.items[*].status.phase}')" = 'Running Running'`,
  },
  'foreign-certificates': {
    summary: "an OIDC provider's CA, *.crt.old files and a backup of 2024 under /etc/kubernetes/pki of the masters",
    scripts: [
      {
        on: 'masters',
        script: `set -e; cd /etc/kubernetes/pki
[ -e oidc-ca.crt ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \\
  -subj '/O=somebody else/CN=OIDC CA' -addext basicConstraints=critical,CA:TRUE -keyout /dev/null -out oidc-ca.crt 2>/dev/null
cp -a apiserver.crt apiserver.crt.old; cp -a apiserver.key apiserver.key.old
mkdir -p -m 700 backup-2024; cp -a apiserver.crt apiserver.key backup-2024/`,
      },
    ],
  },
  'requested-serving-certificates': {
    summary: 'a kubelet whose serving certificate comes from the cluster (serverTLSBootstrap), on the first node',
    scripts: [
      {
        on: 'first node',
        script: `set -e
config=$(tr '\\0' '\\n' </proc/$(pidof kubelet)/cmdline | sed -n 's/^--config=//p')
grep -q '^serverTLSBootstrap: true' "$config" && exit 0
sed -i '/^serverTLSBootstrap:/d' "$config"
echo 'serverTLSBootstrap: true' >>"$config"
systemctl restart kubelet`,
      },
      {
        on: 'first master',
        // Nobody approves these by himself, and the kubelet waits.
        script: `for try in $(seq 60); do
  kubectl get csr -o json | jq -r '.items[] | select(.spec.signerName == "kubernetes.io/kubelet-serving" and .status.conditions == null) | .metadata.name' \\
    | xargs -r kubectl certificate approve >/dev/null
  kubectl get csr -o json | jq -e '[.items[] | select(.spec.signerName == "kubernetes.io/kubelet-serving" and .status.certificate != null)] | length > 0' >/dev/null && exit 0
  sleep 1
done; exit 1`,
      },
    ],
  },
  'no-cluster-info': {
    summary: 'no ConfigMap kube-public/cluster-info',
    scripts: [
      {
        on: 'first master',
        script: 'kubectl -n kube-public delete configmap cluster-info --ignore-not-found >/dev/null',
      },
    ],
  },
  'renamed-dns': {
    summary: 'CoreDNS as a Deployment of another name (cluster-dns)',
    impossible: shape => (has(shape, 'coredns') ? undefined : 'the lab has no CoreDNS'),
    scripts: [
      {
        on: 'first master',
        script: `set -e
kubectl -n kube-system get deployment cluster-dns >/dev/null 2>&1 && exit 0
kubectl -n kube-system get deployment coredns -o json | jq '.metadata = { name: "cluster-dns", namespace: "kube-system", labels: .metadata.labels }
  | del(.status) | .spec.selector.matchLabels.instance = "main" | .spec.template.metadata.labels.instance = "main"' | kubectl apply -f - >/dev/null
kubectl -n kube-system rollout status deployment/cluster-dns --timeout=90s >/dev/null
kubectl -n kube-system delete deployment coredns >/dev/null`,
      },
    ],
  },
  'kubeconfig-of-a-user': {
    summary:
      "a copy of the administrator's kubeconfig in the home of a user of the first master, as kubeadm proposes it",
    scripts: [
      {
        on: 'first master',
        script: `set -e
id -u alice >/dev/null 2>&1 || useradd --create-home alice
install -d -m 700 -o alice -g alice ~alice/.kube
install -m 600 -o alice -g alice /etc/kubernetes/admin.conf ~alice/.kube/config`,
      },
    ],
  },
}
