// The whole path on a real cluster: faults that must leave it untouched, a check, two rotations, and nothing left behind.
// What a rotation did is judged from outside, with openssl and kubectl.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { readKubeconfig } from '../../lib/kubernetes/api/kubeconfig.ts'
import * as lab from '../../lib/lab/index.ts'
import {
  copyOfInventory,
  eventOf,
  handOn,
  leftovers,
  name,
  on,
  rekey,
  rotate,
  scratchFile,
  stateOfHosts,
  upFresh,
  upShared,
  vault,
} from './_lab.ts'
import { assertRotated, takeOldCredentials } from './_outside.ts'

let shape: lab.Shape
const members = () => shape.machines.filter(({ role }) => role === 'master' || role === 'node')
const addressOf = (machine: string) => shape.machines.find(one => one.name === machine)?.address ?? ''

test.before(async () => {
  shape = await upShared()
})
handOn(test)

interface Fault {
  readonly title: string
  readonly code: number
  readonly says: RegExp
  /** Makes the fault, and returns more arguments for the run. */
  make(): Promise<string[]>
  mend(): Promise<unknown>
}

const nothing = async () => {}

const faults: Fault[] = [
  {
    title: 'a host that is down',
    code: 4,
    says: /n2 can't be reached at root@[\d.]+: (connection refused|no route to host|no answer)/,
    make: async () => {
      await on('n2', 'systemctl stop ssh.socket ssh.service 2>/dev/null; systemctl stop ssh')
      return []
    },
    mend: () => on('n2', 'systemctl start ssh'),
  },
  {
    title: 'a wrong host key',
    code: 4,
    says: /the host key of m2 is not the one at .*known_hosts:\d+: it presented/,
    make: async () => {
      const text = readFileSync(lab.knownHostsFile(name), 'utf8')
      const keyOf = (machine: string) => new RegExp(`^${machine},\\S+ (.+)$`, 'm').exec(text)?.[1] ?? ''
      const spoiled = scratchFile('known_hosts', text.replace(keyOf('m2'), keyOf('m1')))
      return [
        '-e',
        JSON.stringify({ ansible_ssh_common_args: `-o UserKnownHostsFile=${spoiled} -o StrictHostKeyChecking=yes` }),
      ]
    },
    mend: nothing,
  },
  {
    title: 'a missing inventory file',
    code: 1,
    says: /^Error: there is no inventory at \/not\/there\.yml$/m,
    make: async () => ['-i', '/not/there.yml'],
    mend: nothing,
  },
  {
    title: 'a YAML error in the inventory',
    code: 1,
    says: /^Error: \S+all\.yml:2:1: not valid YAML: a tab stands where only spaces may indent$/m,
    make: async () => {
      const folder = copyOfInventory()
      writeFileSync(join(folder, 'group_vars', 'all.yml'), 'cluster_name: lab\n\tbroken: [\n')
      return ['-i', join(folder, 'hosts.yml')]
    },
    mend: nothing,
  },
  {
    title: 'an unknown group in --limit',
    code: 1,
    says: /^Error: --limit mastres: "mastres" matches no host and no group of the inventory\nHint: Did you mean "masters"\?$/m,
    make: async () => ['--limit', 'mastres'],
    mend: nothing,
  },
  {
    title: 'a Vault that is sealed',
    code: 2,
    says: /Vault at \S+ is sealed/,
    make: async () => {
      await vault('PUT', 'sys/seal')
      return []
    },
    // The lab unseals it.
    mend: () => rekey(['lab', 'up', '--name', name]),
  },
  {
    title: 'a Vault that is unreachable',
    code: 2,
    says: /Vault at https:\/\/[\d.]+:8299 is unreachable/,
    make: async () => ['-e', `vault_addr=https://${addressOf('vault1')}:8299`],
    mend: nothing,
  },
  {
    title: 'a token without rights',
    code: 2,
    says: /Error: m1: The Vault token may not do what this needs: sys\/mounts \(read\); .*pki_k8s\/roles\/kubernetes-server \(read, create, update\).*\n *Hint: Add to its policy:\n *path "sys\/mounts" \{ capabilities = \["read"\] \}\n/,
    make: async () => {
      const { body } = await vault('POST', 'auth/token/create', { policies: ['default'], ttl: '10m' })
      const token = (JSON.parse(body) as { auth: { client_token: string } }).auth.client_token
      return ['-e', `vault_token_file=${scratchFile('token', token)}`]
    },
    mend: nothing,
  },
  {
    title: 'a role that refuses a SAN',
    code: 2,
    says: /the role pki_other\/roles\/kubernetes-server refuses .*DNS name "kubernetes\.default\.svc"/,
    make: async () => {
      await vault('POST', 'sys/mounts/pki_other', { type: 'pki' })
      await vault('POST', 'pki_other/roles/kubernetes-server', {
        allowed_domains: ['kubernetes', 'm1'],
        allow_bare_domains: true,
        cn_validations: ['disabled'],
        key_type: 'rsa',
      })
      return ['-e', JSON.stringify({ pki_mount: 'pki_other', vault_manage_roles: false })]
    },
    mend: () => vault('DELETE', 'sys/mounts/pki_other'),
  },
  {
    title: 'a full disk under the backup',
    code: 2,
    says: /m1 has \d+ KiB free under \/var\/backups\/rekey, and the backups need \d+/,
    make: async () => {
      await on('m1', 'mkdir -p /var/backups/rekey && mount -t tmpfs -o size=64k tmpfs /var/backups/rekey')
      return []
    },
    mend: () => on('m1', 'umount /var/backups/rekey && rmdir --ignore-fail-on-non-empty /var/backups/rekey'),
  },
  {
    title: 'one etcd member that is down',
    code: 2,
    says: /Error: m1: etcd on m3 is not healthy, or has lost its quorum\n *Hint: Bring it back first/,
    make: async () => {
      await on(
        'm3',
        'mv /etc/kubernetes/manifests/etcd.yaml /etc/kubernetes/etcd.yaml.away; for i in $(seq 50); do pgrep -x etcd >/dev/null || exit 0; sleep 1; done; exit 1',
      )
      return []
    },
    mend: async () => {
      await on('m3', 'mv /etc/kubernetes/etcd.yaml.away /etc/kubernetes/manifests/etcd.yaml')
      await wellAgain()
    },
  },
  {
    title: 'a flag in a manifest that the running process does not have',
    code: 2,
    says: /somebody changed what is not in use yet: kube-scheduler of m2: .*\bv\b.*\n *Hint: .*accept: \[drift\/m2\/kube-scheduler\]/,
    // Its kubelet does not look meanwhile.
    make: async () => {
      await on(
        'm2',
        `kill -STOP $(systemctl show -p MainPID --value kubelet); cd /etc/kubernetes
cp -a manifests/kube-scheduler.yaml scheduler.away; sed -i 's/^    - kube-scheduler$/&\\n    - --v=1/' manifests/kube-scheduler.yaml`,
      )
      return []
    },
    mend: async () => {
      await on(
        'm2',
        'cd /etc/kubernetes; cp -a scheduler.away manifests/kube-scheduler.yaml; rm scheduler.away; kill -CONT $(systemctl show -p MainPID --value kubelet)',
      )
      await wellAgain()
    },
  },
  {
    title: 'a certificate of the cluster’s CA that somebody else goes by',
    code: 2,
    says: /certificates that the plan does not know, and that would be left behind: n1:\/etc\/kubernetes\/pki\/agent\.crt \(.+\): a CA of the cluster signed it, and \/etc\/systemd\/system\/agent\.service names it\n *Hint: Name them in extra_certificates .*accept: \[certificate\/n1:\/etc\/kubernetes\/pki\/agent\.crt\]/,
    make: async () => {
      const certificate = await on('m1', 'cat /etc/kubernetes/pki/apiserver-kubelet-client.crt')
      await on(
        'n1',
        `cat >/etc/kubernetes/pki/agent.crt <<'END'
${certificate.trim()}
END
printf '[Service]\\nExecStart=/opt/agent --cert=/etc/kubernetes/pki/agent.crt\\n' >/etc/systemd/system/agent.service`,
      )
      return []
    },
    mend: () => on('n1', 'rm /etc/kubernetes/pki/agent.crt /etc/systemd/system/agent.service'),
  },
  {
    title: 'a clock that is ten minutes ahead',
    code: 2,
    says: /the clocks differ by more than 60 s: n1 is (599|600|601) s ahead/,
    make: async () => {
      // The machines share the kernel's clock: what sshd starts is lied to.
      await on(
        'n1',
        `library=$(find /usr/lib -name libfaketime.so.1 | head -n 1)
mkdir -p /run/systemd/system/ssh.service.d
printf '[Service]\\nEnvironment=LD_PRELOAD=%s FAKETIME=+600s\\n' "$library" >/run/systemd/system/ssh.service.d/clock.conf
printf 'export LD_PRELOAD=%s FAKETIME=+600s\\n' "$library" >/etc/rekey-clock
systemctl daemon-reload
echo "SetEnv LD_PRELOAD=$library FAKETIME=+600s" >/etc/ssh/sshd_config.d/clock.conf
systemctl restart ssh`,
      )
      return []
    },
    mend: () =>
      on(
        'n1',
        'rm -f /run/systemd/system/ssh.service.d/clock.conf /etc/ssh/sshd_config.d/clock.conf /etc/rekey-clock; systemctl daemon-reload; systemctl restart ssh',
      ),
  },
]

for (const fault of faults) {
  test.serial(`${fault.title}: one clear message, exit ${fault.code}, and every host untouched`, async t => {
    const args = await fault.make()
    try {
      const before = await stateOfHosts(shape)
      const inventory = args.includes('-i') ? [] : ['-i', lab.inventoryPath(name)]
      const called = await rekey(['run', 'rotate-ca', ...inventory, ...args])
      t.is(called.code, fault.code, called.stdout + called.stderr)
      const said = called.stdout + called.stderr
      t.regex(said, fault.says)
      t.notRegex(said, /\n\s+at .*\.ts:\d+/, 'a stack trace is no message')
      t.is(await stateOfHosts(shape), before)
    } finally {
      await fault.mend()
    }
  })
}

test.serial('somebody who is not root is told what the lab needs, and nothing is changed', t => {
  const folder = join(scratchFile('nothing', ''), '..')
  // A user namespace without a mapping: nobody there, and still allowed to read this project wherever it was cloned to.
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['--user', join(process.cwd(), 'bin', 'rekey'), 'lab', 'up', '--name', 'notroot'],
    {
      encoding: 'utf8',
      env: { ...process.env, XDG_STATE_HOME: join(folder, 'state'), XDG_CACHE_HOME: join(folder, 'cache') },
    },
  )
  t.is(status, 1, stdout + stderr)
  t.regex(stderr, /root/)
  t.false(existsSync(join(folder, 'state')))
  t.false(existsSync(join(folder, 'cache')))
})

test.serial('--check names what each step would do on each host, and changes nothing', async t => {
  const before = await stateOfHosts(shape)
  const { code, events, stderr } = await rotate(['--check'])
  t.is(code, 0, stderr)
  const finished = events.filter(event => event.kind === 'step.finished')
  const would = finished.filter(event => event.would).map(event => `${event.host}: ${event.would?.join('; ')}`)
  for (const { name: host } of members())
    t.true(
      would.some(line => line.startsWith(`${host}: `)),
      host,
    )
  t.true(
    would.some(line =>
      /m1: .*issue \/etc\/kubernetes\/pki\/apiserver\.crt: CN kube-apiserver, SANs .*kubernetes\.default\.svc/.test(
        line,
      ),
    ),
  )
  t.true(would.some(line => /take the token out of Secret canary\//.test(line)))
  t.is(await stateOfHosts(shape), before)
  t.notRegex((await vault('GET', 'sys/mounts')).body, /pki_k8s/)
})

test.serial('Ctrl-C ends the current commands, says what state things are in, and exits 130', async t => {
  const before = await stateOfHosts(shape)
  let pressed = false
  const { code, events } = await rotate([], {
    onLine: (line, kill) => {
      // Once: the second one would leave at once.
      if (pressed || !line.includes('"step.finished"') || !line.includes('"read-the-certificates"')) return
      pressed = true
      kill('SIGINT')
    },
  })
  t.is(code, 130)
  const finished = eventOf(events, 'run.finished')
  t.is(finished.outcome, 'interrupted')
  t.truthy(finished.state?.[0])
  t.is(await stateOfHosts(shape), before)
})

// It merges the three CAs into one; the one in faults.test.ts keeps three. That a rotated cluster can be rotated again at once, layouts show.
test.serial('a rotation replaces every certificate under the CA, and users notice nothing', async t => {
  const old = await takeOldCredentials(shape)
  const { code, events, stderr } = await rotate(['-e', 'pki_authorities=one'])
  const finished = eventOf(events, 'run.finished')
  t.is(code, 0, `${stderr}${JSON.stringify(finished.failures)}`)
  const { folder } = eventOf(events, 'run.started')

  t.log(
    ...eventOf(events, 'run.report').sections.flatMap(({ title, rows }) => [
      title,
      ...rows.map(([label, value]) => `  ${label}: ${value}`),
    ]),
  )
  const sinceChange = (milestone: string) => {
    const at = (wanted: string) =>
      events.find(event => event.kind === 'milestone' && event.name === wanted)?.at ?? Number.NaN
    return (at(milestone) - at('first change')) / 1_000
  }
  // A third to a half of that where the machine is its own.
  t.true(sinceChange('nodes ready') <= 120, `${sinceChange('nodes ready')} s until the nodes were Ready`)
  t.true(sinceChange('verified') <= 240, `${sinceChange('verified')} s until all was verified`)
  const row = (title: string, label: string) =>
    eventOf(events, 'run.report')
      .sections.find(one => one.title === title)
      ?.rows.find(([one]) => one === label)?.[1] ?? ''
  t.regex(row('Workloads', 'calls to a Service'), /^0 of [1-9]\d{2,} failed/)
  const endpoint = row('API gap: reads and writes that failed', `${addressOf('lb1')}:6443`)
  const gaps = [...endpoint.matchAll(/longest (.+?), in total/g)].map(([, text = '']) => seconds(text))
  t.is(gaps.length, 2, `reads and writes were away, and it was noticed: ${endpoint}`)
  t.true(Math.max(...gaps) <= 90, endpoint)

  await assertRotated(shape, folder, old)

  // What users are handed then is of the new CA alone, whose key only Vault has.
  const handed = scratchFile('jane.conf', '')
  const asked = ['--user', 'jane', '--ttl', '20m', '-o', handed, '--force']
  const called = await rekey(['kubeconfig', '-i', lab.inventoryPath(name), ...asked])
  t.is(called.code, 0, called.stderr)
  t.regex(called.stderr, /^jane until .*, signed by Vault \S+ with [0-9a-f]{8}$/m)
  const { ca } = readKubeconfig(readFileSync(handed, 'utf8'), handed)
  t.false(ca.includes(old.authority.trim()))
})

test.serial('the lab goes down without leaving anything behind', async t => {
  const called = await rekey(['lab', 'down', '--name', name])
  t.is(called.code, 0, called.stderr)
  t.deepEqual(leftovers(name), [])
})

test.serial('from its snapshot the lab is up within three minutes', async t => {
  const started = performance.now()
  await upFresh()
  const took = (performance.now() - started) / 1_000
  t.log(`${took.toFixed(1)} s`)
  t.true(took <= 180, `${took.toFixed(1)} s`)
})

async function wellAgain(): Promise<void> {
  const etcdAnswers = async (machine: string) =>
    (await lab.tryExec(name, machine, ['curl', '-sf', 'http://127.0.0.1:2381/health'])).stdout.includes('true')
  for (let attempt = 0; attempt < 240; attempt++) {
    const answers = await Promise.all(
      members()
        .filter(({ role }) => role === 'master')
        .map(master => etcdAnswers(master.name)),
    )
    if (answers.every(Boolean) && (await lab.status(name)).complaints.length === 0) return
    await delay(1_000)
  }
  throw new Error('the lab is not well again')
}

/** Seconds of a duration as the report writes it. */
function seconds(text: string): number {
  const [, minutes = '0', amount = '0', unit] = /^(?:(\d+) m )?([\d.]+) (ms|s)$/.exec(text) ?? []
  return Number(minutes) * 60 + Number(amount) / (unit === 'ms' ? 1_000 : 1)
}
