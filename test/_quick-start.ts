// Loaded before each test file: what is compiled for one of the hundred processes is there for the others.
import { enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

enableCompileCache(join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'rekey', 'compiled'))
