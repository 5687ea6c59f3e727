// This machine as a host whose programs of a folder come first, and a systemd for it that knows one unit.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectSocket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { quote } from '../../../lib/connection/shell.ts'
import type { FoundComponent, StaticPodRun, UnitRun } from '../../../lib/kubernetes/layout/host-layout.ts'
import type { HostSession } from '../../../lib/playbook/model.ts'
import { localSession } from '../_local.ts'

/** A component of which nothing was found but what is said. */
export function found(some: Partial<FoundComponent> & Pick<FoundComponent, 'component' | 'runs'>): FoundComponent {
  return { processes: [], flags: {}, files: [], endpoints: [], drift: [], ...some }
}

export const unit = (name: string, more: Partial<UnitRun> = {}): UnitRun => ({
  ...{ kind: 'unit', unit: `${name}.service`, definition: [], environmentFiles: [], type: 'simple' },
  ...more,
})

export const staticPod = (manifest: string): StaticPodRun => ({ kind: 'static-pod', manifest })

/** What systemd does of a unit, as far as it is asked: its process is a `sleep`. It notes what it was told. */
const systemctl = `#!/bin/sh
cd "$STATE" || exit
case "$*" in show*|cat*) ;; *) echo "$*" >>told ;; esac
alive() { [ -s pid ] && readlink "/proc/$(cat pid)/exe" >/dev/null 2>&1; }
start() { setsid sleep 60 >/dev/null 2>&1 </dev/null & echo $! >pid; }
case $1 in
show) alive && cat pid || echo 0 ;;
cat) cat unit ;;
restart) if alive; then kill "$(cat pid)"; fi; start ;;
is-active) alive && echo active ;;
reset-failed|daemon-reload) ;;
*) exit 9 ;;
esac
`

export interface LocalHost {
  readonly session: HostSession
  readonly folder: string
}

/** A host of the test's own; what it started is ended, and its folder removed, when the test is over. */
export async function localHost(t: ExecutionContext): Promise<LocalHost> {
  const folder = mkdtempSync(join(tmpdir(), 'rekey-component-'))
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'systemctl'), systemctl)
  chmodSync(join(bin, 'systemctl'), 0o755)
  const machine = await localSession(line => `export STATE=${quote(folder)} PATH=${quote(bin)}:$PATH; ${line}`)
  t.teardown(async () => {
    await machine.$({ nothrow: true, quiet: true })`kill $(cat ${join(folder, 'pid')}) 2>/dev/null`
    rmSync(folder, { recursive: true, force: true })
  })
  const forward = (address: string, port: number) =>
    new Promise((resolve, reject) => {
      const socket = connectSocket(port, address, () => resolve(socket)).on('error', reject)
    })
  return { session: { ...machine, forward } as unknown as HostSession, folder }
}
