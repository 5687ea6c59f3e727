// The name of the cluster, typed by whoever has read what will be lost.
import { HostFailedError } from '../errors.ts'

/**
 * Fails where somebody has not typed a name, or has typed another one.
 * @param what of the name nobody has confirmed: `may be interrupted`
 * @param page where it stands what comes of it
 */
export function requireTyped(
  confirm: string | undefined,
  name: string,
  { what, page, code }: { readonly what: string; readonly page: string; readonly code: string },
): void {
  if (confirm === name) return
  throw new HostFailedError(
    confirm === undefined
      ? `nobody has confirmed that ${name} ${what}`
      : `${name} was to be confirmed, and ${JSON.stringify(confirm)} was`,
    { code, hint: `Read ${page}; then type its name: -e confirm=${name}` },
  )
}
