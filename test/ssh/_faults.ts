// What tests have their hosts do.

/** A playbook of one step, and one that comes after and writes so into the log in `folder`. */
export const playbookOf = (folder: string, run: string): string => `
import { play, playbook, step } from API
import { z } from ZOD
export default playbook({ name: 'work', summary: 'Works', vars: z.object({}), plays: [play('Work', { hosts: 'masters' }, [
  step('Work', { run: ${run} }),
  step('After', { run: ({ $ }) => $\`echo after >>${folder}/log\` }),
])] })`

/** Waits on the host for a file that the test writes. */
export const until = (file: string): string =>
  `i=0; while [ ! -e ${file} ] && [ $((i += 1)) -lt 1200 ]; do sleep 0.1; done`

/** A command that goes on until so many have begun that are given the same file and a number each; for a minute at most. */
export const meeting = (file: string, number: number, count: number): string =>
  `echo >${file}-${number}; i=0; while [ "$(ls ${file}-* | wc -l)" -lt ${count} ]; do [ $((i += 1)) -lt 1200 ] || break; sleep 0.05; done`
