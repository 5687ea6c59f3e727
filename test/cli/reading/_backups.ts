// Backups as runs leave them, made by hand: files of one master with an EncryptionConfiguration, and a snapshot of etcd.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { manifestHead, writeManifest } from '../../../lib/kubernetes/backups/manifest.ts'
import type { MachineReading } from '../../../lib/kubernetes/trust/machine.ts'
import { temporaryFolder } from '../../_temporary.ts'
import { issue } from '../../pki/certificates/_certificates.ts'
import { workbench } from '../_rekey.ts'

export const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')
const day = 86_400_000

const member = (host: string) => ({ host, name: host, peers: [`https://${host}:2380`] })

/** What `etcdctl snapshot save` leaves, as far as its form goes. */
export function database(): Buffer {
  const pages = Buffer.alloc(4096, 7)
  pages.writeUInt32LE(0xed0cdaed, 16)
  return Buffer.concat([pages, createHash('sha256').update(pages).digest()])
}

const encryption = `kind: EncryptionConfiguration
apiVersion: apiserver.config.k8s.io/v1
resources:
  - resources: [secrets]
    providers:
      - aescbc: { keys: [{ name: key-1, secret: ${Buffer.alloc(32, 1).toString('base64')} }] }
      - identity: {}
`

const ca = issue({ name: 'CN=kubernetes', ca: true })
const leaf = ca.then(issuer => issue({ name: 'CN=kube-apiserver', issuer }))
export const other = ca.then(issuer => issue({ name: 'CN=other', issuer }))

/** A workbench with one master, and runs of it that made backups. */
export function scene() {
  const bench = workbench('local', ['m1'], true)
  const backups = (...words: string[]) => bench.rekey(['backups', '-i', bench.inventory, ...words])
  /** Makes the backup of a run, so many days ago. */
  const made = async (
    run: string,
    {
      days = 0,
      machine = 'a',
      members = ['m1'],
      address = '127.0.0.1',
      key,
      etcd = true,
      outcome = 'done',
      listed,
      path = '/etc/kubernetes/pki',
    }: {
      machine?: string
      members?: string[]
      days?: number
      address?: string
      key?: string
      etcd?: boolean
      outcome?: 'done' | 'failed'
      listed?: string[]
      path?: string
    } = {},
  ) => {
    const folder = join(bench.state, 'rekey', 'runs', run)
    mkdirSync(join(folder, 'backups', 'm1'), { recursive: true, mode: 0o700 })
    writeFileSync(join(folder, 'events.jsonl'), journal(run, outcome))
    const at = new Date(Date.now() - days * day).toISOString()
    const archive = join(folder, 'backups', 'm1', 'host.tgz')
    const files = {
      [`${path.slice(1)}/apiserver.crt`]: (await leaf).pem,
      [`${path.slice(1)}/apiserver.key`]: key ?? (await leaf).keyPem,
      'etc/kubernetes/encryption.yaml': encryption,
    }
    packed(archive, files)
    const named = (role: string, path: string, of?: string) => ({
      ...{ role, by: '--any', path, real: path, ...(of && { key: { path: of, real: of } }) },
    })
    const pki = path
    const apiServer = {
      component: 'kube-apiserver',
      runs: { kind: 'static-pod', manifest: '/etc/kubernetes/manifests/kube-apiserver.yaml' },
      files: [
        named('serving', `${pki}/apiserver.crt`, `${pki}/apiserver.key`),
        named('encryption', '/etc/kubernetes/encryption.yaml'),
      ],
    }
    const reading = {
      ...{ host: 'm1', controlPlane: true, certificates: {}, kubeconfigs: {}, authority: (await ca).pem },
      layout: { host: 'm1', components: { 'kube-apiserver': apiServer } },
    } as unknown as MachineReading
    await writeManifest(folder, {
      ...{ ...manifestHead(run), at, kind: 'files', host: 'm1', address, machine, entries: 3, reading },
      ...{ sha256: sha256(readFileSync(archive)), size: statSync(archive).size },
    })
    const snapshot = join(folder, 'backups', 'm1', 'etcd.db')
    if (etcd) {
      writeFileSync(snapshot, database())
      await writeManifest(folder, {
        ...{
          ...manifestHead(run),
          at,
          kind: 'etcd',
          host: 'm1',
          revision: 42,
          keys: 7,
          members: members.map(member),
          listed,
        },
        ...{ sha256: sha256(database()), size: database().length, objects: { secrets: 7 } },
      })
    }
    return { folder, archive, snapshot }
  }
  return { bench, backups, made }
}

function packed(archive: string, files: Readonly<Record<string, string>>): void {
  const root = temporaryFolder('packed')
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  execFileSync('tar', ['-C', root, '-czf', archive, ...Object.keys(files)])
}

/** The first line of a journal, and the last. */
const journal = (run: string, outcome: string) =>
  `${JSON.stringify({
    ...{ kind: 'run.started', mode: 'run', run, folder: '/any', playbook: 'backup', summary: 'any', inventory: [] },
    ...{ operator: 'root', check: false, plays: [], selection: { forks: 1, extraVars: [] }, at: 1 },
    process: { machine: 'vm', pid: 1, started: '1', scope: 'none' },
  })}\n${JSON.stringify({
    ...{ kind: 'run.finished', outcome, at: 2, exitCode: 0, milliseconds: 1, tally: {}, failures: [] },
  })}\n`
