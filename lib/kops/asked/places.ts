// Where a run keeps the kubeconfigs that kops exports for it.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext } from '../../playbook/model.ts'

/** Each, by what it is for. */
export type Exported = 'before' | 'both' | 'admin' | 'after' | 'back'

/** Where one of a run's is. */
export function kubeconfigFile({ folder }: Pick<RunContext, 'folder'>, name: Exported): string {
  return join(folder, 'kubeconfigs', `${name}.conf`)
}

/** The newest admin credential of the run: an old one dies with the CA that signed it, wherever the run goes. */
export function credentials(ctx: Pick<RunContext, 'folder' | 'mode'>): string {
  const newest = (ctx.mode === 'rollback' ? ['back', 'admin', 'before'] : ['admin', 'before']) as readonly Exported[]
  return kubeconfigFile(ctx, newest.find(name => existsSync(kubeconfigFile(ctx, name))) ?? 'before')
}
