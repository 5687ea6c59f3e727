// Every layout that a lab can have, by the name that `--layout` knows it by.
import type { layouts, Traits } from '../../shape.ts'
import { kubeadm } from './kubeadm.ts'
import type { Layout } from './layout.ts'

const byName: Readonly<Record<(typeof layouts)[number], Layout>> = { kubeadm }

/** The layout of a lab. */
export const layoutOf = ({ layout }: Traits): Layout => byName[layout]
