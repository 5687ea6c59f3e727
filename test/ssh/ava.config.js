// Every way to a host, what goes wrong on it and on the way, and runs that stop in the middle: real sshds, a few test files at a time.
import { makeAvaInOne } from '../_ava-in-one.js'

await makeAvaInOne()

export default {
  files: ['test/ssh/**/*.test.ts'],
  extensions: ['ts'],
  nodeArguments: ['--import=./test/_quick-start.js'],
  concurrency: 3,
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '3m',
}
