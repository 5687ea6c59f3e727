// How much memory this process takes for what is of use for a moment.
import { setFlagsFromString } from 'node:v8'

/**
 * The heap is collected once it has grown by 40 %, and what is young keeps its place small. Both are numbers that V8 reads at each
 * collection, so that a program that runs may set them.
 */
export const smallHeap = ['--heap-growing-percent=40', '--semi-space-growth-factor=1']

/**
 * For many hosts, where garbage piles up while all of them exchange keys: it takes half of the memory at 500 hosts, and a seventh more of the
 * processor (docs/benchmarks.md). For much output: 190 MB instead of 370, in the same time. For what lies in etcd, which comes in pieces that are
 * garbage at once.
 */
export function keepHeapSmall(): void {
  smallHeap.forEach(setFlagsFromString)
}
