// Where compiled code is kept. Node asks nobody who wrote what it reads there, so that folder is this user's alone: plain JavaScript on purpose, as bin/rekey.
const { existsSync, lstatSync, mkdirSync, realpathSync, rmSync } = require('node:fs')
const { homedir } = require('node:os')
const { basename, dirname, isAbsolute, join } = require('node:path')

/**
 * The folder for compiled code, with mode 0700; what lies there with another mode or owner, or is a link, is removed first. Undefined where there is no
 * folder to be believed: its path is not absolute, or somebody else than this user and root owns one above it or may write there, as with `sudo -E`.
 * @param {{ makes?: boolean }} [options] `makes: false` makes nothing where the cache has no folder of rekey's yet
 * @returns {string | undefined}
 */
exports.compileCacheFolder = ({ makes = true } = {}) => {
  try {
    const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
    if (!isAbsolute(cache) || (!makes && !existsSync(join(cache, 'rekey')))) return undefined
    const folder = join(trusted(join(cache, 'rekey')), 'compiled')
    const found = lstatSync(folder, { throwIfNoEntry: false })
    if (found && isPrivate(found)) return folder
    if (found) rmSync(folder, { recursive: true, force: true })
    return isPrivate(made(folder)) ? folder : undefined
  } catch {
    // A user id without an entry in the passwd file, as containers have them, has no home folder where HOME does not say so; or it can't be made.
    return undefined
  }
}

const isPrivate = found => found.isDirectory() && found.uid === process.geteuid() && (found.mode & 0o077) === 0

/** What a folder is that was not there. */
function made(folder) {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  return lstatSync(folder)
}

/** The folder without links on its way, made where it is not there. Throws where somebody else could put another in its place. */
function trusted(path) {
  const above = dirname(path)
  const place = above === path ? path : join(trusted(above), basename(path))
  const found = lstatSync(place, { throwIfNoEntry: false }) ?? made(place)
  const isLink = found.isSymbolicLink()
  // In a folder as /tmp, which all may write in, nobody can move what is somebody else's.
  const others = !isLink && found.mode & 0o022 && !(found.mode & 0o1000)
  if (others || ![0, process.geteuid()].includes(found.uid)) throw new Error(`${place} is not this user's alone`)
  return isLink ? trusted(realpathSync(place)) : place
}
