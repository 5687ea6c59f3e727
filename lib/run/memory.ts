// How much memory this process takes for what is of use for a moment. The numbers are such that V8 reads them at each collection, so that
// a program that runs may set them.
import { setFlagsFromString } from 'node:v8'

/** What is young keeps its place small, else it takes 100 MB of its own where much comes and goes. */
const smallYoung = '--semi-space-growth-factor=1'
/** The heap is collected once it has grown by 40 %. */
const smallOld = '--heap-growing-percent=40'
export const smallHeap = [smallOld, smallYoung]

/**
 * For many hosts: garbage piles up while all of them exchange keys. It takes half of the memory at 500 hosts, and a seventh more of the
 * processor (docs/benchmarks.md).
 */
export function keepHeapSmall(): void {
  smallHeap.forEach(setFlagsFromString)
}

/** For much output. */
export function keepYoungSmall(): void {
  setFlagsFromString(smallYoung)
}
