// A PKI made by openssl in a folder of its own, as an operator makes one beside the machines, before it is copied to them.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { command } from '../../../command.ts'
import { writeWhole } from '../../../folders.ts'

/** What lies in the folder: the content of each file by its name. Throws when there is no such file. */
export type Pki = (name: string) => string

/**
 * Runs a script in a folder that holds these files, and returns what lies there afterwards. Nothing of it stays on the control machine.
 * Throws a `RekeyError` (`lab.command-failed`) with what openssl said.
 */
export async function makePki(files: Readonly<Record<string, string>>, script: string): Promise<Pki> {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-lab-pki-'))
  try {
    for (const [name, content] of Object.entries(files)) writeWhole(join(folder, name), content, { mode: 0o600 })
    await command('sh', ['-eu'], { cwd: folder, input: script, timeout: 300, nice: 5 })
    const made = new Map(readdirSync(folder).map(name => [name, readFileSync(join(folder, name), 'utf8')]))
    return name => {
      const content = made.get(name)
      if (content === undefined) throw new Error(`openssl has left no ${name}`)
      return content
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
