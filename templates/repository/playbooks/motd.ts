// Greets whoever logs in to a host.
import { readFile } from 'node:fs/promises'
import { copy, createRenderer, differingFiles, play, playbook, type StepContext, step } from 'rekey'
import { z } from 'zod'

const vars = z.object({
  message: z.string(),
  motd_file: z.string().default('/etc/motd'),
})

type Context = StepContext<z.output<typeof vars>>

/** The file as it shall be on a host. */
async function motd({ host, vars }: Context) {
  const source = await readFile(new URL('../templates/motd.tpl', import.meta.url), 'utf8')
  const renderer = createRenderer({ secrets: async () => undefined })
  const { bytes } = await renderer.render(source, {
    name: 'motd.tpl',
    data: { Host: host.name, Message: vars.message },
  })
  return [{ path: vars.motd_file, content: bytes }]
}

export default playbook({
  name: 'motd',
  summary: 'Greet whoever logs in',
  vars,
  plays: [
    play('Message of the day', { hosts: 'web' }, [
      step('Keep the old message', {
        // Where there was none, there is nothing to go back to.
        check: async ({ $, vars }: Context) =>
          (await $({ nothrow: true })`test ! -e ${vars.motd_file} -o -e ${vars.motd_file}.before`).exitCode === 0,
        run: async ({ $, vars }: Context) => {
          await $`cp -p ${vars.motd_file} ${vars.motd_file}.before`
        },
      }),
      step('Write the message', {
        // Is it done already? Then the step is ok, and nothing is written.
        check: async (ctx: Context) => (await differingFiles(ctx, await motd(ctx))).length === 0,
        plan: ({ vars }: Context) => `write ${vars.motd_file}`,
        run: async (ctx: Context) => {
          await copy(ctx, await motd(ctx))
        },
        rollback: async ({ $, vars }: Context) => {
          await $`rm -f ${vars.motd_file}; if test -e ${vars.motd_file}.before; then mv ${vars.motd_file}.before ${vars.motd_file}; fi`
        },
      }),
    ]),
  ],
})
