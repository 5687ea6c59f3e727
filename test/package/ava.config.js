// The package as users have it, one file after the other: each packs rekey and installs it.
import { makeAvaInOne } from '../_ava-in-one.js'

await makeAvaInOne()

export default {
  files: ['test/package/*.test.ts'],
  extensions: ['ts'],
  nodeArguments: ['--import=./test/_quick-start.js'],
  // dist/ is one for all.
  concurrency: 1,
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '10m',
}
