// The Nodes that users have, from npm's packages of them: fetched once, into rekey's cache.
import { existsSync, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { start } from '../_process.ts'

/** By their majors; that of 24 is the one that package.json pins. */
const versions = { 20: '20.20.2', 22: '22.23.5', 24: undefined } as const

export type Major = keyof typeof versions

const name = `node-${process.platform}-${process.arch}`

/** The folder with that Node's program; npm, which starts on whichever Node is first in PATH, is the machine's. */
export async function nodeFolder(major: Major): Promise<string> {
  const version = versions[major]
  if (version === undefined) return dirname(process.execPath)
  const prefix = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'rekey', 'nodes', version)
  const folder = join(prefix, 'node_modules', name, 'bin')
  if (!existsSync(join(folder, 'node'))) {
    mkdirSync(prefix, { recursive: true })
    const words = ['--no-audit', '--no-fund', '--ignore-scripts', '--no-save', '--loglevel=error']
    const done = await start('npm', ['install', '--prefix', prefix, ...words, `${name}@${version}`], { ...process.env })
    if (done.code !== 0) throw new Error(`no Node ${version}: ${done.all}`)
  }
  return folder
}
