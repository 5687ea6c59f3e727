// `npm run build:lab`: all that `npm run test:lab` builds before its first test, which takes a while and may be done beside other things. Ends with 1
// and what it needs, where the lab tests can't run.
import { platform } from 'node:os'
import { ensureBinaries } from '../../lib/lab/binaries.ts'
import { type Progress, prepare } from '../../lib/lab/index.ts'

const needs: string[] = []
if (platform() !== 'linux') needs.push('Linux (machines are Linux namespaces)')
if (process.getuid?.() !== 0) needs.push('root (machines need mounts, cgroups and network namespaces)')
if (needs.length > 0) {
  console.error(`The lab tests can't run here. They need ${needs.join(' and ')}.`)
  process.exit(1)
}

const report = (progress: Progress): void => {
  if (progress.kind === 'running')
    console.log(`${progress.title} … ${progress.seconds.toFixed(0)} s ${progress.detail ?? ''}`)
}
await prepare(report)
await ensureBinaries(['consul-template', 'kms'], { report })
