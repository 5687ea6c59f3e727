// What is changed in the manifests of static pods, as kubeadm writes them.
import test from 'ava'
import type { FileChange } from '../../../lib/connection/files.ts'
import { editManifest } from '../../../lib/kubernetes/components/static-pods.ts'
import { fileDiffer } from '../../../lib/output/diff.ts'
import { redactor } from '../../../lib/output/redaction.ts'

const manifest = `apiVersion: v1
kind: Pod
metadata:
  creationTimestamp: null
  labels:
    component: kube-scheduler
    tier: control-plane
  name: kube-scheduler
  namespace: kube-system
spec:
  containers:
  - command:
    - kube-scheduler
    - --authentication-kubeconfig=/etc/kubernetes/scheduler.conf
    - --bind-address=127.0.0.1
    - --leader-elect=true
    image: registry.k8s.io/kube-scheduler:v1.34.4
    imagePullPolicy: IfNotPresent
    livenessProbe:
      failureThreshold: 8
      httpGet:
        host: 127.0.0.1
        path: /livez
        port: probe-port
        scheme: HTTPS
    name: kube-scheduler
    ports:
    - containerPort: 10259
      name: probe-port
      protocol: TCP
    resources:
      requests:
        cpu: 100m
    volumeMounts:
    - mountPath: /etc/kubernetes/scheduler.conf
      name: kubeconfig
      readOnly: true
  hostNetwork: true
  priority: 2000001000
  securityContext:
    seccompProfile:
      type: RuntimeDefault
  volumes:
  - hostPath:
      path: /etc/kubernetes/scheduler.conf
      type: FileOrCreate
    name: kubeconfig
status: {}
`

test.serial('an edited manifest differs from what kubeadm wrote in what was edited, and in nothing else', t => {
  const edited = editManifest(manifest, 'm1:kube-scheduler.yaml', one => {
    one.flag('leader-elect', undefined)
    one.flag('tls-cert-file', '/etc/kubernetes/pki/scheduler.crt')
    one.mountReadOnly('k8s-certs', '/etc/kubernetes/pki')
  })
  const change: FileChange = {
    path: 'kube-scheduler.yaml',
    before: Buffer.from(manifest),
    after: Buffer.from(edited),
    secret: false,
  }
  t.deepEqual(
    fileDiffer(redactor())(change).filter(line => /^[-+](?![-+])/.test(line)),
    [
      '-    - --leader-elect=true',
      '+    - --tls-cert-file=/etc/kubernetes/pki/scheduler.crt',
      '+    - name: k8s-certs',
      '+      mountPath: /etc/kubernetes/pki',
      '+      readOnly: true',
      '+  - name: k8s-certs',
      '+    hostPath:',
      '+      path: /etc/kubernetes/pki',
      '+      type: DirectoryOrCreate',
    ],
  )
})
