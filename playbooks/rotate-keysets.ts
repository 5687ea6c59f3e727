#!/usr/bin/env -S sh -c 'exec "$(dirname "$0")/../bin/rekey" run "$0" "$@"'
// All stages of a graceful rotation, one after the other, with the gates between them: stage-keysets, promote-keysets, distrust-keysets. It may
// stop after one (until), and wait before the old CAs are distrusted (soak). docs/runbooks/rotate-keysets.md is the page to go by.
import { play, playbook, step } from 'rekey'
import { keysets } from 'rekey/rotation'
import { z } from 'zod'
import distrust from './distrust-keysets.ts'
import promote from './promote-keysets.ts'
import stage from './stage-keysets.ts'

const { whole } = keysets
const variables = z.object({ ...keysets.variables, ...whole.variables }) // until, soak
type Context = keysets.Context & { readonly vars: z.output<typeof variables> }

export default playbook({
  name: 'rotate-keysets',
  summary: 'Rotate keysets gracefully: stage, promote, distrust, each when its gate lets it',
  vars: variables,
  services: keysets.openServices,
  plays: [
    // Its looking around is that of the run: the cluster is asked by what it found.
    ...whole.unlessPromoted(stage.plays),
    ...keysets.inStage('promote', whole.withoutProbes(promote.plays), whole.goesOnTo('promoted')),
    play<Context>(whole.betweenTitle, { hosts: 'masters', tags: ['soak'] }, [
      step('Note when it was promoted', whole.notePromoted),
      step('Let it soak', whole.soak),
    ]),
    ...keysets.inStage('distrust', whole.withoutProbes(distrust.plays), whole.goesOnTo('distrusted')),
  ],
  report: whole.report,
})
