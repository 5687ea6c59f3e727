// Fleets over simulated clusters, on a real PostgreSQL and on the embedded one: `npm run test:fleet`.
import { makeAvaInOne } from '../../_ava-in-one.js'

await makeAvaInOne()

export default {
  files: ['test/fleet/live/**/*.test.ts'],
  extensions: ['ts'],
  nodeArguments: ['--import=./test/_quick-start.js'],
  concurrency: 2,
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '6m',
}
