// A shell script around OpenSSH with a shared master connection a host: what rekey measures itself by.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { quote } from '../../../lib/connection/shell.ts'
import { factsCommand, fewFiles, firstCommand, type Runner, stepCommand, type Task } from '../jobs.ts'

export const openssh: Runner = {
  id: 'openssh',
  title: 'OpenSSH',
  settings: 'a shell script; one shared master a host, all hosts at once; `scp` for one file, `tar` over ssh for many',
  command: task => {
    const work = workOf(task)
    if (work === undefined) return undefined
    const script = join(task.folder, 'openssh.sh')
    writeFileSync(script, [...beginning(task), work, ''].join('\n'))
    return { argv: ['/bin/sh', script] }
  },
}

/** Opens the masters. */
function beginning({ reach, folder }: Task): string[] {
  const { user, privateKey, knownHosts, hosts } = reach
  const options = `-F /dev/null -o BatchMode=yes -i ${privateKey} -o UserKnownHostsFile=${knownHosts} -l ${user}`
  return [
    'set -e',
    `hosts=${quote(hosts.map(({ address }) => address).join(' '))}`,
    `control=${folder}/%h`,
    `master() { ssh ${options} -o ControlPath="$control" -o ControlMaster=yes -o ControlPersist=60 -p $2 -fN $1; }`,
    ...hosts.map(({ address, port }) => `master ${address} ${port} &`),
    'wait',
    `on() { host=$1; shift; ssh -F /dev/null -o ControlPath="$control" $host "$@" </dev/null; }`,
  ]
}

const everywhere = (command: string) => `for host in $hosts; do on $host ${quote(command)} & done; wait`

function workOf({ job, bench, reach, folder }: Task): string | undefined {
  switch (job.kind) {
    case 'steps':
      return Array.from({ length: job.steps }, (_, index) => everywhere(stepCommand(index + 1, job, bench.log))).join(
        '\n',
      )
    case 'first':
      return everywhere(firstCommand(bench.log))
    case 'facts':
      return everywhere(factsCommand)
    case 'copy': {
      const lines = reach.hosts.map(({ address, folder: there }) => {
        const make = `on ${address} ${quote(`mkdir -p ${there}/files`)}`
        const send =
          job.files.length > fewFiles
            ? `tar -C ${job.source} -cf - . | ssh -F /dev/null -o ControlPath="$control" ${address} ${quote(`tar -C ${there}/files -xf -`)}`
            : `scp -q -F /dev/null -o ControlPath=${folder}/%h ${job.files.map(name => join(job.source, name)).join(' ')} ${address}:${there}/files/`
        return `{ ${make}; ${send}; } &`
      })
      return [...lines, 'wait'].join('\n')
    }
    default:
      return undefined
  }
}
