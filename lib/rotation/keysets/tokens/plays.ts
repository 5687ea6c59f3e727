// What comes once API servers are to sign with the new key of tokens: it is seen that they do, and everybody holds tokens of it.
import { type Play, play, step } from '../../../playbook/model.ts'
import type { Variables as BackupVariables } from '../../backup.ts'
import type { OnCluster } from '../../given/context.ts'
import { renewed } from './holders.ts'
import { noLongerNext } from './keys.ts'
import { besides } from './secrets.ts'
import { promotedSigns } from './stages.ts'

export const promotedPlays: readonly Play<OnCluster<BackupVariables>>[] = [
  play<OnCluster<BackupVariables>>('Tokens of the new key', { hosts: 'masters', tags: ['tokens'] }, [
    step('Every API server signs with the new key, and knows tokens of the old one', promotedSigns),
    step('Have the pods hold tokens of the new key', renewed),
    step('Note that the new key signs', noLongerNext),
    // Undone first: it refuses where another stage came since, before anything is touched.
    step('Make a Secret beside each that holds a token of the old key', besides),
  ]),
]
