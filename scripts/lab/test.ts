// `npm run test:lab`: the tests on a real cluster.
import { spawnSync } from 'node:child_process'
import { destroy, down, labNames } from '../../lib/lab/index.ts'

// Built once, with progress, before any test counts its minutes.
await import('./build.ts')

// The lab that files of tests hand on: nobody knows what earlier ones have left of it, and it does not go on when they have ended.
const shared = 'test'
if (labNames().includes(shared)) await destroy(shared, () => {})
const files = process.argv.slice(2)
const { status } = spawnSync('ava', ['--config', 'test/lab/ava.config.js', ...files], { stdio: 'inherit' })
if (labNames().includes(shared)) await down(shared, () => {})
process.exit(status ?? 1)
