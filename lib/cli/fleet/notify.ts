// `rekey fleet notify`: who is told what happens, and whether that works.
import { Command } from 'commander'
import { exitCodes, messageOf, RekeyError } from '../../errors.ts'
import { readFleet } from '../../fleet/definition/fleet-file.ts'
import { messageFor } from '../../fleet/notify/message.ts'
import { openSenders } from '../../fleet/notify/senders.ts'
import { operatorName } from '../../operator.ts'
import { say } from '../../output/print.ts'
import { table } from '../../output/words.ts'
import { example } from '../options/help.ts'
import { withFile } from './store.ts'

export function notifyCommand(): Command {
  return withFile(new Command('notify').description('who is told what happens in a fleet, and whether that works'))
    .option('--test', 'send a message to each of them')
    .addHelpText('after', example('whether messages arrive', 'rekey fleet notify --test -F fleet.yml'))
    .action(async ({ file: path, test }: { file: string; test?: true }) => {
      const file = readFleet(path)
      if (file.notify.length === 0)
        throw new RekeyError(`${file.file} names nobody who is to be told`, {
          code: 'fleet.notify',
          hint: "docs/fleet.md says how: 'notify:'.",
        })
      const senders = openSenders(file)
      if (!test) {
        const rows = file.notify.map(({ title, kinds }) => [title, kinds.join(', ')])
        for (const line of table([['WHO', 'IS TOLD OF'], ...rows])) say(line)
        return
      }
      const name = file.name
      const text = `a test by ${operatorName()}: whoever reads this is told what happens`
      const event = { id: Date.now(), at: Date.now(), kind: 'notify' as const, operator: operatorName(), text }
      const message = messageFor({ id: `test-${name}`, name, playbook: file.playbook ?? '' }, event)
      for (const { title, send } of senders) {
        const why = await send(message).then(() => undefined, messageOf)
        say(`${title}: ${why ?? 'taken'}`)
        if (why !== undefined) process.exitCode = exitCodes.hostFailed
      }
    })
}
