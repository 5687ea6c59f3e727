// What a layout is: how a cluster is put onto machines that have booted for the first time, and what others need to know of it then.
import type { Report } from '../../progress.ts'
import type { Machine, Shape } from '../../shape.ts'

/** A way to make a cluster, as one of the tools does that operators use. */
export interface Layout {
  /** The files beside this one that decide what it puts on the disks: part of a snapshot's key. */
  readonly sources: readonly string[]
  /** The administrator's kubeconfig on each master. */
  readonly adminKubeconfig: string
  /** Whether an API server tells a load balancer without a certificate whether it is ready. */
  readonly anonymousReadiness: boolean
  /** The units that start with a machine of the cluster, besides the container runtime. */
  readonly units: (shape: Shape, machine: Machine) => readonly string[]
  /** What its tool's own inventories call the groups of the machines: all of the cluster (`cluster` where it has no name for them), and etcd's where it has any. */
  readonly groups: {
    readonly cluster?: string
    readonly masters: string
    readonly nodes: string
    readonly etcd?: string
  }
  /** What the inventory says of a machine besides its address. */
  readonly hostVariables?: (shape: Shape, machine: Machine) => Readonly<Record<string, string>>
  /** Makes the cluster, up to its add-ons, on machines that have booted for the first time. */
  readonly make: (shape: Shape, report: Report) => Promise<void>
  /** What is not well of it beside nodes and pods, in a few words each; asked while nodes and pods are well. */
  readonly examine?: (shape: Shape) => Promise<string[]>
}
