// Loaded into a run of rekey before everything else: writes down how long its event loop was busy at most, in milliseconds, from its
// first connection on. Until then nothing waits for it: the program is being loaded.
import { subscribe } from 'node:diagnostics_channel'
import { writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'

const resolution = 1
const delays = monitorEventLoopDelay({ resolution })
subscribe('net.client.socket', () => delays.enable())
process.on('exit', () => writeFileSync(process.env['REKEY_BENCH_LOOP'] ?? '', `${delays.max / 1e6 - resolution}`))
