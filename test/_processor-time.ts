// How much of the processor something takes, in milliseconds: on a busy machine it takes longer than that by the clock.

/** The time that a piece of work took of the processor, in this process. */
export function processorTime(work: () => unknown): number {
  const before = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1_000
}
