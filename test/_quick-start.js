// Loaded before ava in each test process: what is compiled for one of the hundred is there for the others. JavaScript, or each would first
// load what reads TypeScript.
import { enableCompileCache } from 'node:module'
import { compileCacheFolder } from '../bin/compile-cache.cjs'
import { useAvaInOne } from './_ava-in-one.js'

const cache = compileCacheFolder()
if (cache !== undefined) enableCompileCache(cache)
useAvaInOne()
// ava asks for maps of sources. Types are taken out of ours without one: each line stays where it is.
process.setSourceMapsEnabled(false)
// Libraries without what rekey leaves out of them, as bin/rekey has them.
await import('../lib/cli/lean-start.ts')
