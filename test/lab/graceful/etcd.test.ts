// The CA of etcd rotated gracefully on a real cluster, while its API is asked: each stage undone or killed once, and judged from outside. Members
// and API servers are started anew, one master after the other, and no canary notices. The old CA's certificates work until they are
// distrusted, and not a moment longer.
import test from 'ava'
import * as lab from '../../../lib/lab/index.ts'
import { name, upFresh } from '../_lab.ts'
import { filesOf, on } from '../_outside.ts'
import { stagesOf } from './_stages.ts'

let shape: lab.Shape
const { run, killedOnce, undone } = stagesOf(name, 'etcd-ca')

test.before(async () => {
  shape = await upFresh()
  for (const master of masters()) await on(shape, master, keepOld)
})

test.after.always(() => lab.down(shape.name, () => {}))

const masters = () => shape.machines.filter(({ role }) => role === 'master').map(({ name }) => name)
const pki = '/etc/kubernetes/pki'
const old = '/root/old-etcd'
/** Where members listen for their peers, too. */
const own = '$(hostname -I | cut -d" " -f1)'

/** Keeps what somebody had in hand before: the CA with its key, a client's certificate that it signed, and one that is forged with its key. */
const keepOld = `set -e; rm -rf ${old}; mkdir -m 700 ${old}; cd ${old}
cp ${pki}/etcd/ca.* ${pki}/apiserver-etcd-client.* .
openssl req -new -newkey rsa:2048 -nodes -keyout forged.key -subj /CN=kube-apiserver-etcd-client -out forged.csr 2>/dev/null
printf 'extendedKeyUsage=clientAuth\n' >extensions
openssl x509 -req -in forged.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out forged.crt 2>/dev/null`

/** What members say to this client, at the port for clients and at that for peers: a status, or 000 where they hang up in the handshake. */
const statuses = async (pair: string): Promise<string[]> => {
  const ask = (port: number) =>
    `curl -sk --http1.1 -m 10 -o /dev/null -w '%{http_code} ' --cert ${pair}.crt --key ${pair}.key https://${own}:${port}/version`
  const said = await Promise.all(
    masters().map(master => on(shape, master, `${[2379, 2380].map(ask).join('; ')}; true`)),
  )
  return [...new Set(said.flatMap(text => text.trim().split(' ')))]
}

/** Whether members present, at both ports, what verifies under a CA alone. */
const presents = async (authority: string): Promise<boolean> => {
  const ask = (port: number) =>
    `openssl s_client -connect ${own}:${port} -CAfile ${authority} -verify_return_error </dev/null 2>&1 | grep -c 'Verification: OK'`
  const said = await Promise.all(masters().map(master => on(shape, master, `${ask(2379)}; ${ask(2380)}; true`)))
  return said.every(text => text.trim().split(/\s+/).join() === '1,1')
}

/** Which processes API servers and members are, and since when, by master. */
const processes = async (): Promise<Record<string, string>> => {
  const found = (name: string) => `grep -lzxE '(/[^ ]*/)?${name}' /proc/[0-9]*/cmdline`
  const since = ['kube-apiserver', 'etcd']
    .map(name => `for f in $(${found(name)}); do echo ${name} $(cut -d' ' -f1,22 "\${f%cmdline}stat"); done`)
    .join('; ')
  return Object.fromEntries(
    await Promise.all(masters().map(async master => [master, await on(shape, master, since)] as const)),
  )
}

test.serial(
  'staged, killed in between and gone on with: members and API servers are started anew, and present what they did',
  async t => {
    const first = await processes()
    await killedOnce('stage', 'restart-etcd-and-the-api-servers')
    for (const [master, now] of Object.entries(await processes()))
      t.not(now, first[master], `${master} was started anew`)
    t.true(await presents(`${old}/ca.crt`))
  },
)

test.serial(
  'promoted, members present what the new CA signed, the old are trusted, and nothing is started anew',
  async t => {
    const staged = await processes()
    await run('promote')
    t.false(await presents(`${old}/ca.crt`))
    t.true(await presents(`${pki}/etcd/ca.crt`))
    t.deepEqual(await statuses(`${old}/apiserver-etcd-client`), ['200'])
    t.deepEqual(await statuses(`${pki}/apiserver-etcd-client`), ['200'])
    t.deepEqual(await processes(), staged)
  },
)

test.serial(
  'distrusted, every member refuses what the old CA signed, and what is forged with its key; undone, none does',
  async t => {
    const before = await filesOf(shape)
    const folder = await run('distrust')
    t.deepEqual(await statuses(`${old}/apiserver-etcd-client`), ['000'])
    t.deepEqual(await statuses(`${old}/forged`), ['000'])
    t.deepEqual(await statuses(`${pki}/apiserver-etcd-client`), ['200'])
    await undone(folder)
    t.deepEqual(await filesOf(shape), before)
    t.deepEqual(await statuses(`${old}/forged`), ['200'])
  },
)
