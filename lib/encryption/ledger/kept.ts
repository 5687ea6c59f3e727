// What hosts keep of before, below the folder of their backups: snapshots of etcd with the keys that they need, and files that have a key in them.
import { z } from 'zod'
import type { Secret } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import type { HostSession } from '../../playbook/model.ts'

/** A key that it takes to read a snapshot. */
const need = z.object({
  /** `aescbc key-1`, `kms v2 vault`. */
  name: z.string(),
  /** Which key of a plugin's. */
  keyId: z.string().optional(),
})
export type Need = z.infer<typeof need>

/** What is noted of a snapshot, in a file beside it. */
const note = z.object({ format: z.literal(1), needs: z.array(need) })

export interface KeptSnapshot {
  readonly path: string
  /** What it needs; undefined where nobody noted that. */
  readonly needs?: readonly Need[]
}

const noteFor = (snapshot: string) => `${snapshot.replace(/\.db$/, '')}.keys`

/** Notes beside a snapshot which keys it needs (0600): no key is in it. */
export async function noteNeeds({ files }: HostSession, snapshot: string, needs: readonly Need[]): Promise<void> {
  const text = `${JSON.stringify({ format: 1, needs })}\n`
  await files.write(noteFor(snapshot), text, { mode: 0o600 })
}

/** Names each snapshot below a folder, and beneath it what is noted beside it, in one line. A name with an end of line in it is no snapshot's of rekey. */
const listing = `[ -d "$1" ] || exit 0
find "$1/" -type f -name '*.db' -exec sh -c 'for file; do
  printf "== %s\\n" "$file"
  note="\${file%.db}.keys"
  [ -f "$note" ] && [ ! -L "$note" ] && head -c 65536 -- "$note" | tr -d "\\n" && echo
done
true' sh {} +`

/**
 * The snapshots of etcd that a host keeps.
 * @param directory the folder of its backups: the folders of runs are in it
 * @throws HostFailedError where it can't be looked through
 */
export async function keptSnapshots({ $ }: HostSession, directory: string): Promise<KeptSnapshot[]> {
  const { stdout } = await $({ quiet: true })`sh -c ${listing} rekey ${directory}`
  return stdout
    .split(/^== /m)
    .slice(1)
    .map(part => {
      const [path = '', noted = ''] = part.split('\n')
      const needs = needsIn(noted)
      return { path, ...(needs && { needs }) }
    })
}

function needsIn(text: string): readonly Need[] | undefined {
  try {
    return note.parse(JSON.parse(text)).needs
  } catch {
    return undefined
  }
}

/** Whether a file of a host has a text in it: of a snapshot, what etcd has not forgotten yet of the past counts as well. */
export async function hasText({ $, host }: HostSession, path: string, text: string): Promise<boolean> {
  const { exitCode, stderr } = await $({ quiet: true, nothrow: true })`LC_ALL=C grep -aqF -e ${text} -- ${path}`
  if (exitCode === 0 || exitCode === 1) return exitCode === 0
  throw new HostFailedError(`${host.name}:${path} can't be looked through: ${stderr.trim()}`, {
    code: 'encryption.not-looked-through',
    host: host.name,
  })
}

/**
 * Names the files below a folder that have in them what comes by stdin, archives unpacked. A shell's own printf hands it on, so that it is in no
 * command line.
 */
const searching = `[ -d "$1" ] || exit 0
key=$(cat)
files=$(find "$1/" -type f ! -name '*.db' -print) || exit 1
[ -n "$files" ] || exit 0
printf '%s\n' "$files" | LC_ALL=C sort | while IFS= read -r file; do
  case $file in *.tgz|*.tar.gz) tar -tzf "$file" </dev/null >/dev/null || { echo "$file is no whole archive" >&2; exit 1; } ;; esac
  case $file in *.tgz|*.tar.gz) tar -xzOf "$file" </dev/null ;; *) cat -- "$file" ;; esac | LC_ALL=C grep -aqF -f /dev/fd/3 3<<END && printf '%s\\n' "$file"
$key
END
  :
done`

/**
 * The files that a host keeps a key in, archives among them. Snapshots of etcd are left out: no key lies in them.
 * @param key as it stands in an API server's file
 * @throws HostFailedError where a part of it can't be read: the key may be there
 */
export async function filesWith({ $, host }: HostSession, directory: string, key: Secret): Promise<string[]> {
  const looked = await $({ quiet: true, nothrow: true, input: key })`sh -c ${searching} rekey ${directory}`
  if (looked.exitCode === 0) return looked.stdout.split('\n').filter(Boolean)
  throw new HostFailedError(`${host.name}:${directory} can't be looked through: ${looked.stderr.trim()}`, {
    code: 'encryption.not-looked-through',
    host: host.name,
    hint: 'What can not be read may have the key in it: mend it or remove it.',
  })
}
