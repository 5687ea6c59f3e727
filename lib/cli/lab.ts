// rekey lab …: a real cluster on machines of its own, on this machine.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline/promises'
import { Argument, Command, InvalidArgumentError, Option } from 'commander'
import { exitCodes, RekeyError } from '../errors.ts'
import * as lab from '../lab/index.ts'
import { say } from '../output/print.ts'
import { terminalOf } from '../output/terminal.ts'
import { table } from '../output/words.ts'
import { readDuration } from './options/duration.ts'
import { example } from './options/help.ts'
import { oneOf } from './options/one-of.ts'

/** The command `lab` with all that belongs to it, for the program to take in. */
export function labCommand(): Command {
  const command = new Command('lab').description('a real cluster to rehearse on: machines, Kubernetes, Vault')
  command.enablePositionalOptions()
  const named = (name: string, description: string) =>
    command.command(name).description(description).option('--name <lab>', 'which lab', lab.defaultOptions.name)

  named('up', 'start the lab, after making it if there is none')
    .addHelpText(
      'after',
      example('a cluster of units as kubeasz makes them', 'rekey lab up --layout systemd --shape kubeasz'),
    )
    .option('--masters <number>', 'masters of a new lab: 1, 3, 5 or 7 (default: 3)', wholeNumber)
    .option('--nodes <number>', 'nodes of a new lab (default: 2)', wholeNumber)
    .addOption(oneOf('--layout <which>', 'how the cluster of a new lab is made (default: kubeadm)', lab.layouts))
    .addOption(oneOf('--shape <which>', 'whose documents --layout systemd follows (default: hard-way)', lab.unitShapes))
    .option(
      '--etcd-hosts <number>',
      'machines of a new lab for etcd alone (default: 0, the masters have it)',
      wholeNumber,
    )
    .addOption(oneOf('--login <how>', 'how machines of a new lab are entered (default: root)', lab.logins))
    .addOption(
      oneOf('--disks <which>', 'whether etcd of a new lab has a disk of its own (default: one)', lab.diskLayouts),
    )
    .addOption(
      oneOf(
        '--node-names <which>',
        "nodes called as the inventory's hosts, or not (default: inventory)",
        lab.nodeNamings,
      ),
    )
    .addOption(
      oneOf('--encryption <how>', 'what API servers of a new lab encrypt Secrets by (default: none)', lab.encryptions),
    )
    .addOption(
      oneOf(
        '--encryption-reload <which>',
        'whether they take up changes of that file (default: on)',
        lab.encryptionReloads,
      ),
    )
    .option('--without <parts>', `what a new lab lacks, by commas: ${lab.dispensable.join(', ')}`, dispensableParts)
    .option('--fresh', 'start from the snapshot of the finished cluster, whatever was done to it since')
    .option('-y, --yes', 'install missing Debian packages without asking')
    .action(async ({ name, shape: unitShape, fresh, yes, ...asked }) => {
      const started = performance.now()
      const options = lab.optionsOf(name, { ...asked, unitShape })
      await interruptible(name, () => lab.up({ ...options, fresh, confirm: yes ? undefined : confirm }, report()))
      const flag = name === lab.defaultOptions.name ? '' : ` --name ${name}`
      say(`
Lab '${name}' is up after ${((performance.now() - started) / 1000).toFixed(0)} s. Look around:
  rekey lab ssh${flag} m1 ${options.login === 'root' ? '' : 'sudo '}kubectl get nodes,pods -A
  rekey lab status${flag}
Its inventory: ${lab.inventoryPath(name)}`)
    })
  named('fill', 'put the cluster into states that clusters of years are found in')
    .addHelpText('after', example('all states that a kubeadm cluster can be in', 'rekey lab fill'))
    .argument('[states...]', 'which of them (default: all that it can be in)')
    .addHelpText('after', () => {
      const rows = Object.entries(lab.labStates).map(([name, { summary }]) => `  ${name.padEnd(22)}${summary}`)
      return `\nStates:\n${rows.join('\n')}`
    })
    .option('--secrets <number>', 'give it so many Secrets, and put it into no state that is not named', wholeNumber)
    .action((states: string[], { name, secrets }) =>
      interruptible(name, () => lab.fill(name, states, report(), secrets)),
    )
  named('expire', 'have certificates of the cluster run out, and wait until its API is gone')
    .addHelpText('after', example('the day on which nobody has renewed them', 'rekey lab expire leaves'))
    .addArgument(new Argument('<what>', 'all that its CAs have signed, or the CAs themselves').choices(lab.expirable))
    .addOption(
      new Option('--in <duration>', 'for how long they still hold')
        .argParser(readDuration)
        .default(readDuration('60s'), '60s'),
    )
    .action((what: lab.Expirable, { name, in: milliseconds }) =>
      interruptible(name, () => lab.expire(name, what, milliseconds / 1_000, report())),
    )
  named('down', 'shut the machines down; their disks stay')
    .addHelpText('after', example('the lab called small', 'rekey lab down --name small'))
    .action(({ name }) => interruptible(name, () => lab.down(name, report())))
  named('destroy', 'shut the machines down and remove their disks')
    .addHelpText('after', example('the lab called small, with all that it holds', 'rekey lab destroy --name small'))
    .action(({ name }) => interruptible(name, () => lab.destroy(name, report())))
  named('status', 'which machines run, and how the cluster is')
    .addHelpText('after', example('whether it may be rehearsed on', 'rekey lab status'))
    .action(async ({ name }) => {
      const { shape, machines, complaints } = await lab.status(name)
      const traits = lab.unusual(shape)
      const rows = machines.map(machine => [
        machine.name,
        machine.role,
        machine.address,
        machine.running ? 'running' : 'down',
      ])
      say(table([['MACHINE', 'ROLE', 'ADDRESS', 'STATE'], ...rows]).join('\n'))
      if (traits.length > 0) say(`made with: ${traits.join(' ')}`)
      say(complaints.length ? `cluster: ${complaints.join('; ')}` : 'cluster: well')
      if (complaints.length) process.exitCode = exitCodes.hostFailed
    })
  named('inventory', "print the path of the lab's inventory")
    .addHelpText('after', example('a run on it', 'rekey run rotate-ca -i "$(rekey lab inventory)" --check'))
    .action(({ name }) => {
      say(lab.requireInventory(name))
    })
  named('ssh', 'log in to a machine, or run a command there')
    .addHelpText('after', example('what runs there', 'rekey lab ssh m1 kubectl get pods -A'))
    .argument('<host>', 'a machine, e.g. m1')
    .argument('[command...]', 'what to run there')
    .passThroughOptions()
    .action(async (host: string, words: string[], { name }) => {
      process.exitCode = await ssh(name, host, words)
    })
  return command
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Not a whole number.')
  return Number(text)
}

function dispensableParts(text: string): (typeof lab.dispensable)[number][] {
  return text.split(',').map(word => {
    const part = lab.dispensable.find(one => one === word.trim())
    if (part) return part
    throw new InvalidArgumentError(`A lab can be without ${lab.dispensable.join(', ')}.`)
  })
}

async function confirm(question: string): Promise<boolean> {
  if (!process.stdin.isTTY) return true
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  const answer = await terminal.question(`${question} [Y/n] `)
  terminal.close()
  return /^(y|yes|)$/i.test(answer.trim())
}

async function ssh(name: string, host: string, words: readonly string[]): Promise<number> {
  const machine = lab.machineOf(name, host)
  const shape = lab.shapeOfLab(name)
  const options = ['-i', lab.privateKeyFile(name), '-o', `UserKnownHostsFile=${lab.knownHostsFile(name)}`]
  const strict = ['-o', 'StrictHostKeyChecking=yes', '-o', 'IdentitiesOnly=yes', '-o', 'LogLevel=ERROR']
  // Nothing of the user's own configuration has a say about these hosts.
  // What asks for a password, as sudo does, wants a terminal.
  const terminal = shape.login === 'sudo-password' && words.length > 0 && process.stdin.isTTY ? ['-t'] : []
  const to = `${lab.loginUser(shape)}@${machine.address}`
  const child = spawn('ssh', ['-F', 'none', ...options, ...strict, ...terminal, to, ...words], {
    stdio: 'inherit',
  })
  return new Promise((resolve, reject) => {
    child.on('error', error =>
      reject(new RekeyError(`cannot start ssh: ${error.message}`, { code: 'lab.no-program', cause: error })),
    )
    child.on('close', code => resolve(code ?? exitCodes.unreachable))
  })
}

/** Ctrl-C: the machines stay as they are, and the next command finds out how that is. */
async function interruptible(name: string, work: () => Promise<unknown>): Promise<void> {
  const interrupt = () => {
    say(`
Interrupted. 'rekey lab up --name ${name}' goes on from here, 'rekey lab down --name ${name}' ends what is running.`)
    process.exit(exitCodes.interrupted)
  }
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  try {
    await work()
  } finally {
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
  }
}

/** Shows progress: on a terminal one line for what is under way, rewritten; elsewhere a line for each thing said. */
function report(): lab.Report {
  const { stdout } = process
  const underWay = new Map<string, string>()
  const redraw = () => {
    if (!stdout.isTTY) return
    const line = terminalOf(stdout).text([...underWay].map(([title, state]) => `${title}${state}`).join(' | '))
    stdout.write(`\r\x1b[K${line.slice(0, (stdout.columns || 80) - 1)}`)
  }
  const put = (line: string) => {
    if (stdout.isTTY) stdout.write('\r\x1b[K')
    say(line)
  }
  const detailed = (seconds: number, detail?: string) => ` ${seconds.toFixed(0)} s${detail ? ` (${detail})` : ''}`
  return progress => {
    if (progress.kind === 'note') put(progress.text)
    else if (progress.kind === 'started') {
      underWay.set(progress.title, ' …')
      if (!stdout.isTTY) put(`${progress.title} …`)
    } else if (progress.kind === 'running') {
      const state = ` …${detailed(progress.seconds, progress.detail)}`
      underWay.set(progress.title, state)
      if (!stdout.isTTY) put(`${progress.title}${state}`)
    } else {
      underWay.delete(progress.title)
      const mark = progress.kind === 'finished' ? '✔' : '✖'
      put(`${mark} ${progress.title}${detailed(progress.seconds)}`)
    }
    redraw()
  }
}
