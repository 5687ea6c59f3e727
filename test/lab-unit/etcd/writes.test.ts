// How the lab's tests tell what a cluster writes of itself from what somebody wrote.
import test from 'ava'
import { signsOfLife, tellsOfStaticPod } from '../../lab/etcd/_writes.ts'

test('leases, and what nodes say of themselves, are signs of life; any other write or deletion is somebody’s', t => {
  const own = [
    'PUT /registry/leases/kube-node-lease/m1',
    'PUT /registry/masterleases/10.0.0.1',
    'PUT /registry/minions/n1',
    'DELETE /registry/events/kube-system/kube-scheduler-m1.1',
  ]
  const others = [
    'PUT /registry/pods/kube-system/kube-controller-manager-m2',
    'PUT /registry/configmaps/kube-system/leases',
    'DELETE /registry/secrets/default/events',
    'PUT rekey',
  ]
  t.deepEqual(signsOfLife([...own, ...others]), { own, others })
})

test('what a kubelet tells of its own static pod is that of a master, and no deletion', t => {
  const masters = ['m1', 'm2']
  const isTold = (write: string) => tellsOfStaticPod(write, masters)
  t.true(isTold('PUT /registry/pods/kube-system/kube-controller-manager-m2'))
  for (const write of [
    'DELETE /registry/pods/kube-system/kube-controller-manager-m2',
    'PUT /registry/pods/kube-system/kube-controller-manager-m3',
    'PUT /registry/pods/kube-system/coredns-m1',
    'PUT /registry/pods/kube-system/kube-proxy-m1',
    'PUT /registry/pods/default/etcd-m1',
    'PUT /registry/configmaps/kube-system/etcd-m1',
  ])
    t.false(isTold(write), write)
})
