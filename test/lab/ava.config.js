// The lab tests share one machine, and most of them one lab: one file after the other, and patience.
export default {
  files: ['test/lab/**/*.test.ts'],
  extensions: ['ts'],
  concurrency: 1,
  serial: true,
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '20m',
  verbose: true,
}
