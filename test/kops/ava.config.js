// Rotations of kOps clusters, by a stand-in for kops: `npm run test:kops`.
import { makeAvaInOne } from '../_ava-in-one.js'

await makeAvaInOne()

export default {
  // The one with a real kops has no test where there is none.
  files: ['test/kops/**/*.test.ts', ...(process.env.REKEY_KOPS ? [] : ['!test/kops/real/**'])],
  extensions: ['ts'],
  nodeArguments: ['--import=./test/_quick-start.js'],
  concurrency: 2,
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '15m',
}
