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
  /** As which user it runs, where that is not root. */
  readonly user?: string
  readonly name: string
  readonly peers: readonly string[]
  /** All members: `NAME=URL`. */
  readonly members: readonly string[]
  /** Of this restore: members of another one are strangers. */
  readonly token: string
}

/** Where a run has what it made, and what was there before, below the folder of the data: etcd minds nothing but its own `member`. */
export const asideIn = (data: string, run: string) => `${data}/rekey-${run}`

/** By how much revisions go up, so that no client sees a revision of before twice: what etcd's manual has for a week of 1,500 writes a second. */
const bump = 1_000_000_000

/** Whether the etcdutl of a host can have revisions go up (from etcd 3.6 on), so that watchers do not see time run backwards. */
export async function bumpsRevisions({ $ }: HostSession): Promise<boolean> {
  const { stdout } = await $({ quiet: true })`${raw(etcdTools)}util=$(etcd_tool etcdutl 2>/dev/null) || exit 0
"$util" snapshot restore --help 2>&1 | grep -c -e --bump-revision || true`
  return Number(stdout.trim()) > 0
}

/**
 * Makes the data of a member from a snapshot, beside the data that is there; that stays as it is. May be done again before `putDataInPlace`.
 * @param snapshot a file on the host
 * @throws HostFailedError where etcdutl does not take the snapshot
 */
export async function dataFromSnapshot(
  session: HostSession,
  run: string,
  snapshot: string,
  { data, user = '', name, peers, members, token }: MemberFromSnapshot,
): Promise<void> {
  const bumped = (await bumpsRevisions(session)) ? ['--bump-revision', String(bump), '--mark-compacted'] : []
  const aside = asideIn(data, run)
  const { exitCode, stderr } = await session.$({ nothrow: true })`set -e; umask 077
[ -d ${data} ] || { mkdir -p ${data}; [ -z ${user} ] || chown ${user} ${data}; }
${raw(etcdTools)}util=$(etcd_tool etcdutl 2>/dev/null) || util=$(etcd_tool etcdctl)
mkdir -p ${aside}; rm -rf ${aside}/new
"$util" snapshot restore ${snapshot} --name ${name} --initial-cluster ${members.join(',')} --initial-cluster-token ${token} \
  --initial-advertise-peer-urls ${peers.join(',')} --data-dir ${aside}/new ${bumped} >/dev/null
[ -d ${aside}/new/member ]
chown -R --reference=${data} ${aside}; sync -f ${aside}/new/member`
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

/** Puts in place what `dataFromSnapshot` made; what was there is kept. No etcd may run. May be done twice. */
export async function putDataInPlace(session: HostSession, run: string, data: string): Promise<void> {
  const aside = asideIn(data, run)
  await session.$`set -e; cd ${data}
[ -d ${aside}/new/member ] || { [ -d ${aside}/before ] && [ -d member ]; } || { echo "${aside}/new/member is not there" >&2; exit 1; }
[ -d ${aside}/new/member ] || exit 0
if [ -e member ]; then
  if [ -e ${aside}/before ]; then mv -T member "${raw(aside)}/between-$(date +%s)"
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
[ -e ${aside}/restored ] || [ ! -e member ] || mv -T member ${aside}/restored
[ ! -e ${aside}/before/member ] || mv -T ${aside}/before/member member
sync -f .`
}
