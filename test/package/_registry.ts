// A registry on loopback of what `npm ci` has installed: what npm asks of it is answered out of node_modules, and nothing leaves this machine.
import { spawn } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { dirname, join } from 'node:path'

interface Package {
  readonly name: string
  readonly version: string
}

/** Serves the packages below a folder of modules. Resolves to its URL, and what ends it. */
export async function serveRegistry(modules: string): Promise<{ url: string; close(): void }> {
  const folders = new Map<string, Map<string, string>>()
  for (const file of globSync('**/node_modules/{*,@*/*}/package.json', { cwd: dirname(modules) })) {
    const { name, version } = JSON.parse(readFileSync(join(dirname(modules), file), 'utf8')) as Partial<Package>
    if (name === undefined || version === undefined) continue
    const versions = folders.get(name) ?? new Map<string, string>()
    folders.set(name, versions.set(version, join(dirname(modules), dirname(file))))
  }
  const server = createServer((request, response) => answer(request, response, folders, url()))
  const url = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { url: url(), close: () => server.close() }
}

function answer(
  { url = '/' }: IncomingMessage,
  response: ServerResponse,
  folders: ReadonlyMap<string, ReadonlyMap<string, string>>,
  registry: string,
): void {
  const [name = '', version] = decodeURIComponent(url.slice(1)).split('?version=')
  const versions = folders.get(name)
  const folder = versions?.get(version ?? '')
  if (!versions || (version !== undefined && !folder)) {
    response.writeHead(404).end('{}')
  } else if (folder) {
    // A package lies below one folder, however it is called.
    const words = ['--create', '--exclude=./node_modules', '--transform=s,^[.],package,', '--directory', folder, '.']
    const tar = spawn('tar', words, { stdio: ['ignore', 'pipe', 'ignore'] })
    tar.stdout.pipe(response)
  } else {
    const said = [...versions].map(([number, place]) => {
      const read = JSON.parse(readFileSync(join(place, 'package.json'), 'utf8')) as Package
      const tarball = `${registry}/${encodeURIComponent(name)}?version=${number}`
      return [number, { ...read, dist: { tarball } }] as const
    })
    const latest = said.at(-1)?.[0]
    response.setHeader('content-type', 'application/json')
    response.end(JSON.stringify({ name, 'dist-tags': { latest }, versions: Object.fromEntries(said) }))
  }
}
