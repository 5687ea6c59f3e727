// How often a property is tried: a few hundred times by `npm test`, for as long as there is time by `npm run test:fuzz`.

/** For fast-check: `usual` runs, or as many as fit into the share of time that `npm run test:fuzz` gives each property. */
export function tries(usual: number): { numRuns: number; interruptAfterTimeLimit?: number } {
  const share = Number(process.env['REKEY_FUZZ_SHARE'] ?? 0)
  return share > 0 ? { numRuns: 1e9, interruptAfterTimeLimit: share * 1_000 } : { numRuns: usual }
}
