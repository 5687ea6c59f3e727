// Where a run keeps the kubeconfigs that kops exports for it.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { RunContext } from '../../playbook/model.ts'

/** Each, by what it is for. What is renewed lies beside the one of before, which may have been handed out. */
export type Exported = Named | `${Named}-renewed`
type Named = 'before' | 'both' | 'admin' | 'after' | 'back'

/** Where one of a run's is. */
export function kubeconfigFile({ folder }: Pick<RunContext, 'folder'>, name: Exported): string {
  return join(folder, 'kubeconfigs', `${name}.conf`)
}

/** The newest admin credential of the run: an old one dies with the CA that signed it, wherever the run goes. */
export function credentials(ctx: Pick<RunContext, 'folder' | 'mode'>): string {
  const name = newest(ctx)
  const renewed = kubeconfigFile(ctx, `${name}-renewed`)
  return existsSync(renewed) ? renewed : kubeconfigFile(ctx, name)
}

/** What that is renewed as, where it does not last. */
export const renewedCredentials = (ctx: Pick<RunContext, 'folder' | 'mode'>): Exported => `${newest(ctx)}-renewed`

function newest(ctx: Pick<RunContext, 'folder' | 'mode'>): Named {
  // The one of before trusts the old CA alone: it knows no API server any more that presents the new one.
  const there: readonly Named[] = ['admin', 'both', 'before']
  const names: readonly Named[] = ctx.mode === 'rollback' ? ['back', ...there] : there
  return names.find(name => existsSync(kubeconfigFile(ctx, name))) ?? 'before'
}
