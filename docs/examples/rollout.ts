#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../../bin/rekey" run "$0" "$@"'
import { block, play, playbook, type StepContext, secret, step } from 'rekey'
// Rolls a file out from one host to all, and takes a host back to where it was when it does not come up with it.
import { z } from 'zod'

const vars = z.object({
  directory: z.string().default('/srv/rollout'),
  /** Exits with 0 once the service of the host, its first argument, has the token. */
  ready: z.string().default('true'),
})

type Context = StepContext<z.output<typeof vars>>

const folder = ({ vars, host }: Context) => `${vars.directory}/${host.name}`

export default playbook({
  name: 'rollout',
  summary: 'Roll a file out to all hosts, and back where one does not come up',
  vars,
  plays: [
    play('Make it', { hosts: 'masters' }, [
      step('Make the token', {
        runOnce: true,
        // What a step returns is registered under its id; a secret in it is kept in a file of its own.
        run: async ({ $ }: Context) => {
          // What is printed is shown and kept at once, before anybody can say that it is a secret: `quiet`.
          const { stdout } = await $({ quiet: true })`head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n'`
          return { token: secret(stdout), made: new Date() }
        },
      }),
    ]),
    play('Roll it out', { hosts: 'masters:nodes', maxFailPercentage: 50 }, [
      block(
        'Replace the token',
        {
          rescue: [
            step('Go back to the token from before', {
              run: async (ctx: Context) => {
                ctx.log(`goes back: ${ctx.failure?.message}`)
                await ctx.$`cd ${folder(ctx)} && if [ -e before ]; then mv before token; else rm -f token; fi`
              },
            }),
          ],
          always: [
            step('Remove what is left over', {
              run: async (ctx: Context) => {
                await ctx.$`rm -f ${folder(ctx)}/before`
              },
            }),
          ],
        },
        [
          step('Write the token', {
            run: async (ctx: Context) => {
              const { token } = ctx.registered<{ token: ReturnType<typeof secret> }>('make-the-token')!
              await ctx.$`mkdir -p ${folder(ctx)} && cd ${folder(ctx)} && if [ -e token ]; then mv token before; fi`
              await ctx.files.write(`${folder(ctx)}/token`, token, { mode: 0o600 })
            },
          }),
          step('Wait until the service took it', {
            run: ({ $, vars, host }: Context) => $({ nothrow: true })`sh -c ${vars.ready} ready ${host.name}`,
            until: ({ exitCode }: { exitCode: number | null }) => exitCode === 0,
            retries: 3,
            delay: 100,
          }),
        ],
      ),
      step('Note it on the first master', {
        delegateTo: ({ hosts }: Context) => hosts('masters')[0]!.name,
        run: async ({ $, host, vars }: Context) => {
          await $`echo ${host.name} >>${vars.directory}/rolled-out`
        },
      }),
    ]),
  ],
})
