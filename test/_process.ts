// Runs a program for a test, and keeps what it says.
import { spawn } from 'node:child_process'

/** What a program said, and how it ended. */
export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  /** Both, the output first. */
  readonly all: string
}

/** Runs a program, with nothing in its environment but what is given, and resolves when it has ended. */
export async function start(file: string, words: readonly string[], env: NodeJS.ProcessEnv): Promise<Ended> {
  const child = spawn(file, words, { cwd: import.meta.dirname, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', chunk => {
    stdout += chunk
  })
  child.stderr.on('data', chunk => {
    stderr += chunk
  })
  const code = await new Promise<number | null>(resolve => child.on('close', resolve))
  return { code, stdout, stderr, all: stdout + stderr }
}
