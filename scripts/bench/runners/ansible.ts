// Ansible, as somebody sets it up who knows it well; and the same playbooks under Mitogen's strategy.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  fewFiles,
  firstCommand,
  type Job,
  type Runner,
  stepCommand,
  type Task,
  templateItems,
  templateText,
} from '../jobs.ts'
import { ansibleProgram, mitogenStrategies } from '../peers.ts'

export const ansible: Runner = {
  id: 'ansible',
  title: 'Ansible',
  settings:
    'forks = hosts, pipelining, ControlPersist, no compression, fact gathering off, interpreter given, linear strategy, `unarchive` of an archive that is there already for many files, `copy` where nothing may be sent',
  command: task => ansibleCommand(task, {}),
}

export const mitogen: Runner = {
  id: 'mitogen',
  title: 'Mitogen',
  settings: 'Ansible’s settings and playbooks, `mitogen_linear`',
  command: task =>
    // It speeds up connections, not inventories.
    task.job.kind === 'inventory' || task.job.kind === 'words'
      ? undefined
      : ansibleCommand(task, { ANSIBLE_STRATEGY_PLUGINS: mitogenStrategies, ANSIBLE_STRATEGY: 'mitogen_linear' }),
}

function ansibleCommand(task: Task, more: Readonly<Record<string, string>>) {
  const { job, reach, inventory, folder } = task
  const environment = { ...ansibleEnvironment(task), ...more }
  if (job.kind === 'words') return { argv: [ansibleProgram('ansible-playbook'), ...job.words], environment }
  if (job.kind === 'inventory')
    return { argv: [ansibleProgram('ansible-inventory'), '-i', job.file, '--list'], environment }
  const playbook = join(folder, 'playbook.yml')
  const play = { hosts: 'all', gather_facts: false, vars: { bench_items: templateItems }, tasks: tasksOf(task) }
  // JSON is YAML.
  writeFileSync(playbook, JSON.stringify([play]))
  const argv = [ansibleProgram('ansible-playbook'), '-i', inventory, '--forks', String(reach.hosts.length), playbook]
  return { argv, environment }
}

function ansibleEnvironment({ folder, reach }: Task): Record<string, string> {
  const configuration = join(folder, 'ansible.cfg')
  writeFileSync(configuration, '')
  return {
    ANSIBLE_CONFIG: configuration,
    ANSIBLE_NOCOLOR: '1',
    ANSIBLE_PIPELINING: '1',
    ANSIBLE_FORKS: String(reach.hosts.length),
    ANSIBLE_SSH_ARGS: '-o ControlMaster=auto -o ControlPersist=60s -o Compression=no',
    ANSIBLE_SSH_CONTROL_PATH_DIR: join(folder, 'cp'),
    ANSIBLE_LOCAL_TEMP: join(folder, 'tmp'),
    ANSIBLE_CACHE_PLUGIN: 'jsonfile',
    ANSIBLE_CACHE_PLUGIN_CONNECTION: join(folder, 'facts'),
    LC_ALL: 'C.UTF-8',
  }
}

type AnsibleTask = Readonly<Record<string, unknown>>

function tasksOf({ job, bench, folder }: Task): AnsibleTask[] {
  switch (job.kind) {
    case 'steps':
      return Array.from({ length: job.steps }, (_, index) => ({
        name: `Step ${index + 1}`,
        'ansible.builtin.shell': stepCommand(index + 1, job, bench.log),
      }))
    case 'first':
      return [{ name: 'Write it down', 'ansible.builtin.shell': firstCommand(bench.log) }]
    case 'copy':
      return copyTasks(job)
    case 'templates':
      return templateTasks(job.count, folder)
    case 'facts':
      return [
        {
          name: 'Read facts',
          'ansible.builtin.setup': {
            gather_subset: ['!all', '!min', 'platform', 'distribution', 'hardware', 'network'],
          },
        },
      ]
    case 'inventory':
    case 'words':
      return []
  }
}

function copyTasks({ source, files, onlyDifferent }: Extract<Job, { kind: 'copy' }>): AnsibleTask[] {
  const destination = '{{ bench_folder }}/files'
  const folder = { name: 'Make the folder', 'ansible.builtin.file': { path: destination, state: 'directory' } }
  // `copy` asks and sends file by file, which takes minutes for a thousand; `unarchive` sends all of them whatever is there.
  const many = onlyDifferent
    ? { name: 'Copy', 'ansible.builtin.copy': { src: `${source}/`, dest: destination } }
    : { name: 'Copy', 'ansible.builtin.unarchive': { src: `${source}.tar`, dest: destination } }
  const few = files.map(name => ({
    name: `Copy ${name}`,
    'ansible.builtin.copy': { src: join(source, name), dest: `${destination}/${name}` },
  }))
  return files.length > fewFiles ? [folder, many] : [folder, ...few]
}

function templateTasks(count: number, folder: string): AnsibleTask[] {
  const templates = join(folder, 'templates')
  mkdirSync(templates, { recursive: true })
  for (let number = 1; number <= count; number++)
    writeFileSync(join(templates, `t${number}.j2`), templateText('jinja', number))
  const destination = '{{ bench_folder }}/rendered'
  return [
    { name: 'Make the folder', 'ansible.builtin.file': { path: destination, state: 'directory' } },
    {
      name: 'Render',
      'ansible.builtin.template': { src: `${templates}/t{{ item }}.j2`, dest: `${destination}/t{{ item }}.conf` },
      loop: Array.from({ length: count }, (_, index) => index + 1),
    },
  ]
}
