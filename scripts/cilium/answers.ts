// `npm run test:update-cilium`: has Cilium's own agent read every key file of test/kubernetes/cilium/fixtures/key-files.json, and writes its answers down. Takes Go, and
// some minutes the first time; the version of Cilium is in go.mod beside this.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cacheFolder } from '../../lib/lab/folders.ts'

interface Case {
  readonly text: string
  cilium?: unknown
  readonly strict?: string
}

const file = join(import.meta.dirname, '../../test/kubernetes/cilium/fixtures/key-files.json')
const cases = JSON.parse(readFileSync(file, 'utf8')) as Case[]
const folder = join(cacheFolder(), 'cilium')
mkdirSync(folder, { recursive: true })
const program = join(folder, 'answers')
const env = { ...process.env, CGO_ENABLED: '0' }
execFileSync('go', ['build', '-o', program, '.'], {
  cwd: import.meta.dirname,
  env,
  stdio: ['ignore', 'inherit', 'inherit'],
})
const { stdout, stderr, status } = spawnSync(program, {
  input: JSON.stringify(cases.map(({ text }) => text)),
  encoding: 'utf8',
})
if (status !== 0) throw new Error(stderr)
const answers = JSON.parse(stdout) as unknown[]
for (const [index, one] of cases.entries()) one.cilium = answers[index]
const rows = cases.map(({ text, cilium, strict }) => JSON.stringify({ text, cilium, strict }))
writeFileSync(file, `[\n  ${rows.join(',\n  ')}\n]\n`)
