// Installs the project's packages where they are missing or not those of package-lock.json; does nothing otherwise.
// Plain JavaScript without imports of ours: it runs before anything is installed, on whatever Node there is.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** The packages of a lock file, by their folder. */
function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(join(root, file), 'utf8')).packages
  } catch {
    return undefined
  }
}

/** Whether what npm noted when it installed is what the lock file asks for; packages for other machines may be left out. */
function isInstalled() {
  const wanted = packagesOf('package-lock.json') ?? {}
  const installed = packagesOf(join('node_modules', '.package-lock.json'))
  if (!installed) return false
  return Object.entries(wanted).every(
    ([folder, { version, optional }]) =>
      folder === '' || installed[folder]?.version === version || (optional && !installed[folder]),
  )
}

if (!isInstalled()) {
  console.log('Installing packages (npm ci) …')
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
  })
  process.exit(status ?? 1)
}
