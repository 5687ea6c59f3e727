// The lab tests share one machine, and most of them one lab: one file after the other, and patience.

/** Those that hand the shared lab on, in this order: nothing is changed; rotated, and put back to its snapshot; undone. */
const shared = ['certs', 'rotate-ca', 'faults']
const placeOf = file => {
  const place = shared.findIndex(name => file.endsWith(`/test/lab/${name}.test.ts`))
  return place === -1 ? shared.length : place
}

export default {
  files: ['test/lab/**/*.test.ts'],
  extensions: ['ts'],
  sortTestFiles: (one, other) => placeOf(one) - placeOf(other) || (one < other ? -1 : 1),
  concurrency: 1,
  serial: true,
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '20m',
  verbose: true,
}
