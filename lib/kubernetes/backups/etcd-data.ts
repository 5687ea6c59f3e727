// The data of an etcd member from a snapshot: made beside what is there, then put in its place while no etcd runs, and back again. What was
// there is moved aside within the data's own folder, which may be a disk of its own, and stays.
import { raw } from '../../connection/shell.ts'
import { HostFailedError } from '../../errors.ts'
import { foreignWords } from '../../foreign-words.ts'
import type { HostSession } from '../../playbook/model.ts'
import { etcdTools } from '../components/etcd.ts'

/** A member as it is to begin from a snapshot. */
export interface MemberFromSnapshot {
  /** `--data-dir` of the member. */
  readonly data: string
  /** Whose its data is where none is there to go by, as chown takes it; root's where nothing is said. */
  readonly owner?: string
  readonly name: string
  readonly peers: readonly string[]
  /** All members: `NAME=URL`. */
  readonly members: readonly string[]
  /** Of this restore: members of another one are strangers. */
  readonly token: string
  /** Whether its revisions go up: the same for all members. */
  readonly bump: boolean
  /** Of the program that makes it, the same for all members. */
  readonly version: string
}

/** The program of a host that makes members from snapshots. Plain data. */
export interface RestoringTool {
  /** `3.6.4`. */
  readonly version: string
  /** Whether it can have revisions go up (from etcd 3.6 on), so that watchers do not see time run backwards. */
  readonly bumps: boolean
}

/** Where a run has what it made, and what was there before, below the folder of the data: etcd minds nothing but its own `member`. */
export const asideIn = (data: string, run: string) => `${data}/rekey-${run}`

/** By how much revisions go up, so that no client sees a revision of before twice: what etcd's manual has for a week of 1,500 writes a second. */
const revisions = 1_000_000_000

// Before 3.6, etcdctl did what etcdutl does.
const restoring = `${etcdTools}util=$(etcd_tool etcdutl 2>/dev/null) || util=$(etcd_tool etcdctl)
version_of() { "$util" version 2>/dev/null | sed -n 's/^etcd[a-z]* version: *//p'; }
`

/** Which program of a host makes members. Throws `HostFailedError` where there is none. */
export async function restoringTool({ $ }: HostSession): Promise<RestoringTool> {
  const { stdout } = await $({ quiet: true })`${raw(restoring)}version_of
"$util" snapshot restore --help 2>&1 | grep -c -e --bump-revision || true`
  const [version = '', count] = stdout.trim().split('\n')
  return { version, bumps: Number(count) > 0 }
}

/**
 * Makes the data of a member from a snapshot, beside the data that is there; that stays as it is. May be done again before `putDataInPlace`.
 * @param snapshot a file on the host
 * @throws HostFailedError where etcdutl does not take the snapshot, is another one than was found, or can't do what is asked of it
 */
export async function dataFromSnapshot(
  session: HostSession,
  run: string,
  snapshot: string,
  { data, owner = '', name, peers, members, token, bump, version }: MemberFromSnapshot,
): Promise<void> {
  const bumped = bump ? ['--bump-revision', String(revisions), '--mark-compacted'] : []
  const aside = asideIn(data, run)
  const { exitCode, stderr } = await session.$({ nothrow: true })`set -e; umask 077
${raw(restoring)}[ "$(version_of)" = ${version} ] || { echo "it would be made by etcd $(version_of), and ${raw(foreignWords(version, 40))} was found" >&2; exit 1; }
mkdir -p ${data}
if [ -e ${data}/member ]; then whose=$(stat -c %u:%g ${data}/member)
else whose=${owner}; [ -z "$whose" ] || chown "$whose" ${data}; fi
mkdir -p ${aside}; rm -rf ${aside}/new
"$util" snapshot restore ${snapshot} --name ${name} --initial-cluster ${members.join(',')} --initial-cluster-token ${token} \
  --initial-advertise-peer-urls ${peers.join(',')} --data-dir ${aside}/new ${bumped} >/dev/null
[ -d ${aside}/new/member ]
[ -n "$whose" ] || whose=$(stat -c %u:%g ${data})
chown -R "$whose" ${aside}; sync -f ${aside}/new/member`
  if (exitCode === 0) return
  throw new HostFailedError(
    `${session.host.name}: etcd's data could not be made from the snapshot: ${foreignWords(stderr, 500)}`,
    {
      code: 'restore.snapshot',
      host: session.host.name,
      hint: `What etcd has is as it was. Is there room for it under ${data}?`,
    },
  )
}

// bbolt holds this lock for as long as an etcd has the file open. A host without flock is taken at the word of whoever stopped etcd.
const notOpen = `_open() { [ -e "$1/snap/db" ] && command -v flock >/dev/null && ! flock -n "$1/snap/db" true; }
! _open member || { echo 'an etcd has this data open' >&2; exit 1; }
`

/** Puts in place what `dataFromSnapshot` made; what was there is kept. No etcd may run. May be done twice. */
export async function putDataInPlace(session: HostSession, run: string, data: string): Promise<void> {
  const aside = asideIn(data, run)
  await session.$`set -e; cd ${data}
${raw(notOpen)}[ ! -d ${aside}/moving/member ] || mv -T ${aside}/moving ${aside}/before
[ -d ${aside}/new/member ] || { [ -d ${aside}/before ] && [ -d member ]; } || { echo "${aside}/new/member is not there" >&2; exit 1; }
[ -d ${aside}/new/member ] || exit 0
if [ -e member ]; then
  if [ -e ${aside}/before ]; then mv -T member ${aside}/between-$(date +%s)
  else mkdir -p -m 700 ${aside}/moving; mv -T member ${aside}/moving/member; mv -T ${aside}/moving ${aside}/before; fi
elif [ -d ${aside}/moving ]; then mv -T ${aside}/moving ${aside}/before
else mkdir -p -m 700 ${aside}/before; fi
mv -T ${aside}/new/member member; rmdir ${aside}/new; sync -f .`
}

/** Puts back what was there before `putDataInPlace`: nothing, where nothing was. No etcd may run. May be done twice. */
export async function putDataBack(session: HostSession, run: string, data: string): Promise<void> {
  const aside = asideIn(data, run)
  await session.$`set -e; cd ${data} 2>/dev/null || exit 0
rmdir ${aside}/moving 2>/dev/null || :
[ ! -d ${aside}/moving ] || mv -T ${aside}/moving ${aside}/before
[ -d ${aside}/before ] || { rm -rf ${aside}; exit 0; }
[ -e ${aside}/before/member ] || [ ! -e ${aside}/restored ] || exit 0
${raw(notOpen)}if [ -e member ]; then
  if [ ! -e ${aside}/restored ]; then mv -T member ${aside}/restored
  elif [ -e ${aside}/before/member ]; then mv -T member ${aside}/between-$(date +%s); fi
fi
[ ! -e ${aside}/before/member ] || mv -T ${aside}/before/member member
sync -f .`
}
