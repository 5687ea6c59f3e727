// The cluster's own CA rotated gracefully on a real cluster, while its API is asked: one stage killed, one undone, and judged from outside. Kubelets
// and controllers are started anew, and no API server. No canary notices. The old CA's certificates work until they are distrusted, and not a
// moment longer.
import test from 'ava'
import * as lab from '../../../lib/lab/index.ts'
import { name, upFresh } from '../_lab.ts'
import { filesOf, machinesOf, on } from '../_outside.ts'
import { stagesOf } from './_stages.ts'

let shape: lab.Shape
const { run, killedOnce, undone } = stagesOf(name, 'kubernetes-ca')

test.before(async () => {
  shape = await upFresh()
  await keepOld()
})

test.after.always(() => lab.down(shape.name, () => {}))

const masters = () => shape.machines.filter(({ role }) => role === 'master').map(({ name }) => name)
const pki = '/etc/kubernetes/pki'
const old = '/root/old-kubernetes'

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

/** Keeps on every machine what somebody had in hand before: the CA, the administrator's certificate, and one that is forged with the CA's key. */
async function keepOld(): Promise<void> {
  const packed = await on(
    shape,
    'm1',
    `set -e; rm -rf ${old}; mkdir -m 700 ${old}; cd ${old}; cp ${pki}/ca.* .
openssl req -new -newkey rsa:2048 -nodes -keyout forged.key -subj /O=system:masters/CN=forged -out forged.csr 2>/dev/null
printf 'extendedKeyUsage=clientAuth\n' >extensions
openssl x509 -req -in forged.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out forged.crt 2>/dev/null
sed -n 's/ *client-certificate-data: //p' /etc/kubernetes/admin.conf | base64 -d >admin.crt
sed -n 's/ *client-key-data: //p' /etc/kubernetes/admin.conf | base64 -d >admin.key
tar c . | base64 -w0`,
  )
  const unpack = `rm -rf ${old}; mkdir -m 700 ${old}; printf %s ${packed} | base64 -d | tar xC ${old}`
  await Promise.all(machinesOf(shape).map(({ name: machine }) => on(shape, machine, unpack)))
}

/** What API servers, kubelets, controller-managers and schedulers say to a client: all statuses that there are. */
const saidTo = async (pair: string): Promise<string[]> => {
  const ask = (port: number) =>
    `curl -sk --http1.1 -m 10 -o /dev/null -w '%{http_code} ' --cert ${pair}.crt --key ${pair}.key https://127.0.0.1:${port}/metrics`
  const said = await Promise.all(
    machinesOf(shape).map(({ name: machine, role }) =>
      on(shape, machine, `${(role === 'master' ? [6443, 10250, 10257, 10259] : [10250]).map(ask).join('; ')}; true`),
    ),
  )
  return [...new Set(said.flatMap(text => text.trim().split(' ')))]
}

/** Whether API servers present what verifies under a CA alone. */
const apiPresents = async (authority: string): Promise<boolean> => {
  const ask = `openssl s_client -connect 127.0.0.1:6443 -no-CApath -no-CAstore -CAfile ${authority} -verify_return_error </dev/null 2>&1 | grep -c 'Verification: OK'; true`
  const said = await Promise.all(masters().map(master => on(shape, master, ask)))
  return said.every(text => text.trim() === '1')
}

test.serial(
  'the cluster’s own CA staged and promoted, killed in between and gone on with: both are trusted, and no API server is started anew',
  async t => {
    const first = await processes()
    await run('stage')
    t.true(await apiPresents(`${old}/ca.crt`))
    await killedOnce('promote', 'put-the-certificates-in-place')
    t.false(await apiPresents(`${old}/ca.crt`))
    t.true(await apiPresents(`${pki}/ca.crt`))
    t.deepEqual(await saidTo(`${old}/admin`), ['200'])
    t.deepEqual(await saidTo(`${old}/forged`), ['200'])
    t.deepEqual(await processes(), first)
  },
)

test.serial(
  'distrusted, every server refuses the administrator of before, and one who is forged with the old CA’s key; undone, none does',
  async t => {
    const before = await filesOf(shape)
    const folder = await run('distrust')
    t.deepEqual(await saidTo(`${old}/admin`), ['401'])
    t.deepEqual(await saidTo(`${old}/forged`), ['401'])
    await undone(folder)
    t.deepEqual(await filesOf(shape), before)
    t.deepEqual(await saidTo(`${old}/forged`), ['200'])
  },
)
