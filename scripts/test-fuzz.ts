// `npm run test:fuzz`: every property that the tests hold, tried for ten minutes in all, or as many seconds as are given.
import { spawnSync } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'

const seconds = Number(process.argv[2] ?? 600)
if (!Number.isInteger(seconds) || seconds < 1) {
  console.error(`'${process.argv[2]}' is not a number of seconds. Usage: npm run test:fuzz [-- SECONDS]`)
  process.exit(1)
}
const properties = globSync('test/**/*.test.ts')
  .map(file => ({ file, count: readFileSync(file, 'utf8').match(/\btries\(\d/g)?.length ?? 0 }))
  .filter(({ count }) => count > 0)
const count = properties.reduce((sum, one) => sum + one.count, 0)
const share = Math.max(1, Math.round(seconds / count))
console.log(`${count} properties in ${properties.length} files, ${share} s each`)
const files = properties.map(({ file }) => file)
const { status } = spawnSync('ava', ['--concurrency', '1', '--timeout', '60m', ...files], {
  stdio: 'inherit',
  env: { ...process.env, REKEY_FUZZ_SHARE: String(share) },
})
process.exit(status ?? 1)
