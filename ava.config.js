// The tests of `npm test`: all but those that take an sshd or a lab.
import { makeAvaInOne } from './test/_ava-in-one.js'

/** Those that take the longest, and mostly wait: begun first, the others find room beside them, and none goes on alone in the end. */
const longest = [
  'template/command',
  'cli/full-disk',
  'cli/execution',
  'cli/view',
  'cli/diff',
  'linear-time/functions',
  'cli/reading/certs',
  'template/vault-variables',
]
const placeOf = file => {
  const place = longest.findIndex(name => file.endsWith(`/test/${name}.test.ts`))
  return place === -1 ? longest.length : place
}

await makeAvaInOne()

export default {
  files: [
    'test/**/*.test.ts',
    '!test/lab/**',
    '!test/ssh/**',
    '!test/package/**',
    '!test/kops/**',
    '!test/report/**',
    '!test/fleet/live/**',
    '!test/inventory/random/random.test.ts',
  ],
  extensions: ['ts'],
  nodeArguments: ['--import=./test/_quick-start.js'],
  sortTestFiles: (one, other) => placeOf(one) - placeOf(other) || (one < other ? -1 : 1),
  // Half of the time of each is waiting.
  concurrency: 4,
  // docs/testing.md says why not.
  workerThreads: false,
  timeout: '3m',
}
