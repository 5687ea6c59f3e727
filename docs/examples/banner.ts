#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../../bin/rekey" run "$0" "$@"'
import { HostFailedError, play, playbook, type StepContext, step } from 'rekey'
// Puts a banner on every host, one host after the other, and has it announced where it changed.
import { z } from 'zod'

const vars = z.object({
  banner: z.string().default('Authorised use only'),
  banner_directory: z.string().default('/etc'),
})

type Context = StepContext<z.output<typeof vars>>

const path = ({ vars, host }: Context) => `${vars.banner_directory}/banner-${host.name}`

export default playbook({
  name: 'banner',
  summary: 'Put a banner on every host, one after the other',
  vars,
  plays: [
    play(
      'Banner',
      {
        hosts: 'masters:nodes',
        serial: 1,
        handlers: [
          step('Announce the banner', {
            run: async (ctx: Context) => {
              await ctx.$`echo announced >>${path(ctx)}.log`
            },
          }),
        ],
      },
      [
        step('Write the banner', {
          notify: 'announce-the-banner',
          // Is it done already? Then `run` is left out, and the outcome is ok.
          check: async (ctx: Context) => {
            const { stdout } = await ctx.$({ nothrow: true })`cat ${path(ctx)}`
            return stdout === `${ctx.vars.banner}\n`
          },
          // What --check says of it.
          plan: (ctx: Context) => `write ${path(ctx)}`,
          run: async (ctx: Context) => {
            await ctx.files.write(path(ctx), `${ctx.vars.banner}\n`, { mode: 0o644 })
          },
          // Proves the effect: what can't be proven has failed.
          verify: async (ctx: Context) => {
            const { stdout } = await ctx.$`wc -c <${path(ctx)}`
            if (Number(stdout) > 1) return
            throw new HostFailedError(`the banner of ${ctx.host.name} is empty`, {
              code: 'banner.empty',
              host: ctx.host.name,
              hint: 'Set the variable banner.',
            })
          },
          // What `rekey rollback` does.
          rollback: async (ctx: Context) => {
            await ctx.$`rm -f ${path(ctx)}`
          },
        }),
      ],
    ),
  ],
})
