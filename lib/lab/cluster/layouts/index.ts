// Every layout that a lab can have, by the name that `--layout` knows it by.
import type { layouts, Traits, unitShapes } from '../../shape.ts'
import { externalEtcd } from './external-etcd.ts'
import { kubeadm } from './kubeadm.ts'
import type { Layout } from './layout.ts'
import { hardWay } from './systemd/hard-way.ts'
import { kubeasz } from './systemd/kubeasz.ts'

const byShape: Readonly<Record<(typeof unitShapes)[number], Layout>> = { 'hard-way': hardWay, kubeasz }

const byName: Readonly<Record<(typeof layouts)[number], (traits: Traits) => Layout>> = {
  kubeadm: () => kubeadm,
  'external-etcd': () => externalEtcd,
  systemd: ({ unitShape }) => byShape[unitShape],
}

/** The layout of a lab. */
export const layoutOf = (traits: Traits): Layout => byName[traits.layout](traits)
