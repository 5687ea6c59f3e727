// What of an old CA is kept on the masters from its successor's promotion to the end: its certificate, its key where that lay there, and the
// certificates that it signed. With these it can be trusted again, and it can be shown that nobody lets them in any more. The same of a key that
// signs tokens, and of one that is to: until it does, that lies nowhere else.
import { createPublicKey } from 'node:crypto'
import { join } from 'node:path'
import { certificatesWithin, digestOf } from '../../pki/certificates/bundle-text.ts'
import { splitBundle } from '../../pki/certificates/certificate.ts'
import type { KeysetFacts, KeysetName } from '../../pki/keyset.ts'
import type { HostSession, RunContext } from '../../playbook/model.ts'
import type { Variables as BackupVariables } from '../backup.ts'
import type { OnHost } from '../given/context.ts'
import { etcd, masters } from '../given/hosts.ts'
import { tokenKeyset } from './which/chosen.ts'

/** What to do where it is gone that a way back needs. */
export const finishedHint =
  'Was finish-keysets run since? What it has destroyed can’t be trusted again: the stages before it stay done.'

/** Who keeps it: masters, and hosts of etcd what they trusted themselves. */
export const keepers = `${masters}:${etcd}`

/** The folder of an item of a keyset on each of them. */
export function keptFolder({ vars }: Pick<RunContext<BackupVariables>, 'vars'>, name: KeysetName, id: string): string {
  return join(vars.backup_directory, 'keysets', name, id)
}

/** Destroys folders of a host, where they are there: files are written over first, as far as the disk does as it is told. */
export async function destroyFolders({ $ }: Pick<HostSession, '$'>, folders: readonly string[]): Promise<void> {
  if (folders.length === 0) return
  await $`for f in ${folders}; do [ ! -d "$f" ] || { find "$f" -xdev -type f -exec shred -f {} +; rm -rf "$f"; rmdir -p "$(dirname "$f")" 2>/dev/null; }; done; true`
}

/** The certificates of CAs that masters keep for a keyset, PEM, each once. */
export async function keptAuthorities(ctx: OnHost<BackupVariables>, name: KeysetName): Promise<string[]> {
  const found = await Promise.all(
    ctx.hosts(keepers).map(async host => {
      const { $ } = await ctx.on(host)
      const folder = join(ctx.vars.backup_directory, 'keysets', name)
      const { stdout } = await $({ nothrow: true, quiet: true })`cat ${folder}/*/ca.crt 2>/dev/null`
      return splitBundle(stdout)
    }),
  )
  return [...new Set(found.flat())]
}

/** Every certificate that masters keep of a keyset, what the CAs have signed among them, PEM; no key leaves a host for it. */
export async function keptCertificates(ctx: OnHost<BackupVariables>, name: KeysetName): Promise<string[]> {
  const found = await Promise.all(
    ctx.hosts(keepers).map(async host => {
      const { $ } = await ctx.on(host)
      const folder = join(ctx.vars.backup_directory, 'keysets', name)
      const { stdout } = await $({
        nothrow: true,
        quiet: true,
      })`cat ${folder}/*/*.crt 2>/dev/null; sed -n 's/^ *client-certificate-data: *//p' ${folder}/*/*.conf 2>/dev/null`
      return certificatesWithin(stdout)
    }),
  )
  return [...new Set(found.flat())]
}

/** A key of tokens that masters keep. */
export interface KeptTokenKey {
  readonly key: string
  /** PEM. */
  readonly publicKey: string
  /** It is to sign, and has not yet. */
  readonly next: boolean
  /** The masters that have its private key. */
  readonly hosts: readonly string[]
}

/** What is in the folder of a key of tokens: the pair, and what says that it is to sign. */
export const tokenKeyFiles = { public: 'sa.pub', private: 'sa.key', next: 'next' } as const

/** The keys of tokens that masters keep, each once. */
export async function keptTokenKeys(ctx: OnHost<BackupVariables>): Promise<KeptTokenKey[]> {
  const { public: publicName, private: privateName, next } = tokenKeyFiles
  const folder = keptFolder(ctx, tokenKeyset, '')
  const found = new Map<string, KeptTokenKey>()
  for (const host of ctx.hosts(masters)) {
    const { $ } = await ctx.on(host)
    const script = `cd "$1" 2>/dev/null || exit 0; for d in */; do [ -f "$d/${publicName}" ] || continue; echo "== $([ -f "$d/${next}" ] && echo next) $([ -f "$d/${privateName}" ] && echo private)"; cat "$d/${publicName}"; done`
    const { stdout } = await $({ quiet: true })`sh -c ${script} rekey ${folder}`
    for (const section of stdout.split(/^== /m).slice(1)) {
      const [words = '', ...lines] = section.split('\n')
      const publicKey = lines.join('\n')
      const key = digestOf(createPublicKey(publicKey))
      const known = found.get(key) ?? { key, publicKey, next: false, hosts: [] }
      const hosts = words.includes('private') ? [...known.hosts, host.name] : known.hosts
      found.set(key, { ...known, hosts, next: known.next || words.includes('next') })
    }
  }
  return [...found.values()]
}

/** What is known of the keys of tokens, with those that masters keep. Bare keys have no age: which is to follow is said where it is kept. */
export function withKept(facts: KeysetFacts | undefined, kept: readonly KeptTokenKey[]): KeysetFacts {
  return {
    ...{ trusters: [], uses: [], ...facts },
    kept: kept.map(({ key }) => ({ key, where: 'the masters' })),
    comesNext: kept.filter(({ next }) => next).map(({ key }) => key),
  }
}
