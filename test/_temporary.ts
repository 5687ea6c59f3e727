// Folders of tests, gone when their test file has ended.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folders: string[] = []

process.on('exit', () => {
  for (const folder of folders) {
    try {
      rmSync(folder, { recursive: true, force: true })
    } catch {
      // Something is mounted there, or belongs to somebody else: no reason for a test to fail.
    }
  }
})

/** Makes an empty folder for as long as this process, or this worker of ava, is there. */
export function temporaryFolder(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `rekey-${name}-`))
  folders.push(folder)
  return folder
}
