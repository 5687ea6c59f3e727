// Loaded before ava in each test process: what is compiled for one of the hundred is there for the others. JavaScript, or each would first
// load what reads TypeScript.
import { enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { useAvaInOne } from './_ava-in-one.js'

enableCompileCache(join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'rekey', 'compiled'))
useAvaInOne()
// Libraries without what rekey leaves out of them, as bin/rekey has them.
await import('../lib/cli/lean-start.ts')
