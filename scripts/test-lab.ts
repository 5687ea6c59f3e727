// `npm run test:lab`: the tests on a real cluster. Says what it needs where it can't run.
import { spawnSync } from 'node:child_process'
import { platform } from 'node:os'
import { ensureBinaries } from '../lib/lab/binaries.ts'

const needs: string[] = []
if (platform() !== 'linux') needs.push('Linux (machines are Linux namespaces)')
if (process.getuid?.() !== 0) needs.push('root (machines need mounts, cgroups and network namespaces)')
if (needs.length > 0) {
  console.error(`The lab tests can't run here. They need ${needs.join(' and ')}.`)
  process.exit(1)
}

// Built once, with progress, before any test counts its minutes.
await ensureBinaries(['kubernetes', 'coredns', 'vault', 'canary', 'consul-template', 'kms'], {
  report: progress => {
    if (progress.kind === 'running')
      console.log(`${progress.title} … ${progress.seconds.toFixed(0)} s ${progress.detail ?? ''}`)
  },
})

const files = process.argv.slice(2)
const { status } = spawnSync('ava', ['--config', 'test/lab/ava.config.js', ...files], { stdio: 'inherit' })
process.exit(status ?? 1)
