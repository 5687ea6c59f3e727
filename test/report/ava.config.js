// The HTML report as a browser shows it: Debian's Chromium, one page after the other.
import { makeAvaInOne } from '../_ava-in-one.js'

await makeAvaInOne()

export default {
  files: ['test/report/**/*.test.ts'],
  extensions: ['ts'],
  nodeArguments: ['--import=./test/_quick-start.js'],
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '3m',
}
