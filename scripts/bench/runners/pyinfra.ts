// pyinfra, every host at once.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fewFiles, firstCommand, type Job, type Runner, stepCommand, templateItems, templateText } from '../jobs.ts'
import { pyinfraProgram } from '../peers.ts'

export const pyinfra: Runner = {
  id: 'pyinfra',
  title: 'pyinfra',
  settings: 'parallel = hosts, no sudo, known_hosts checked, `files.sync` for many files',
  command: ({ job, reach, bench, folder }) => {
    if (job.kind === 'inventory') return undefined
    if (job.kind === 'words') return { argv: [pyinfraProgram, ...job.words] }
    const inventory = join(folder, 'hosts.py')
    const hosts = reach.hosts.map(({ name, address, port, folder }) => [
      name,
      { ssh_hostname: address, ssh_port: port, bench_folder: folder, bench_name: name },
    ])
    const common = {
      ssh_user: reach.user,
      ssh_key: reach.privateKey,
      ssh_known_hosts_file: reach.knownHosts,
      ssh_strict_host_key_checking: 'yes',
      ssh_allow_agent: false,
      ssh_look_for_keys: false,
    }
    writeFileSync(
      inventory,
      `import json\nhosts = ([tuple(h) for h in json.loads(${python(hosts)})], json.loads(${python(common)}))\n`,
    )
    const deploy = join(folder, 'deploy.py')
    writeFileSync(deploy, deployOf(job, bench.log, folder))
    const argv = [pyinfraProgram, '-y', '--parallel', String(reach.hosts.length), inventory]
    if (job.kind !== 'facts') return { argv: [...argv, deploy], cwd: folder }
    const facts = ['KernelVersion', 'Arch', 'LinuxDistribution', 'Mounts'].map(fact => `server.${fact}`)
    return { argv: [...argv, 'fact', ...facts, 'hardware.Cpus', 'hardware.Memory', 'hardware.Ipv4Addrs'], cwd: folder }
  },
}

/** A Python literal of the JSON of a value. */
const python = (value: unknown) => JSON.stringify(JSON.stringify(value))

function deployOf(job: Job, log: string, folder: string): string {
  const head = 'import json\nfrom pyinfra import host\nfrom pyinfra.operations import files, server\n'
  const here = 'folder = host.data.bench_folder\n'
  switch (job.kind) {
    case 'steps': {
      const commands = Array.from({ length: job.steps }, (_, index) => stepCommand(index + 1, job, log))
      return `${head}for number, command in enumerate(json.loads(${python(commands)}), 1):\n    server.shell(name=f"Step {number}", commands=[command])\n`
    }
    case 'first':
      return `${head}server.shell(name="Write it down", commands=[json.loads(${python(firstCommand(log))})])\n`
    case 'copy':
      return job.files.length > fewFiles
        ? `${head}${here}files.sync(name="Copy", src=json.loads(${python(job.source)}), dest=f"{folder}/files")\n`
        : `${head}${here}for name in json.loads(${python(job.files)}):\n    files.put(name=f"Copy {name}", src=f"${job.source}/{name}", dest=f"{folder}/files/{name}")\n`
    case 'templates': {
      const templates = join(folder, 'templates')
      mkdirSync(templates, { recursive: true })
      for (let number = 1; number <= job.count; number++)
        writeFileSync(join(templates, `t${number}.j2`), templateText('jinja', number))
      return `${head}${here}items = json.loads(${python(templateItems)})
for number in range(1, ${job.count} + 1):
    files.template(name=f"Render {number}", src=f"${templates}/t{number}.j2", dest=f"{folder}/rendered/t{number}.conf",
                   bench_name=host.data.bench_name, bench_items=items)
`
    }
    default:
      return head
  }
}
