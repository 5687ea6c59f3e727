// "Did you mean …?" guesses when a guess helps, and is silent otherwise.
import test from 'ava'
import { didYouMean } from '../../lib/suggestion.ts'

test.serial('one slip is found: a letter more, less, wrong, or two swapped', t => {
  for (const word of ['nodess', 'noes', 'nodas', 'ndoes', 'NODES'])
    t.is(didYouMean(word, ['masters', 'nodes', 'all']), 'nodes', word)
})

test.serial('the nearest of several wins, and long words may have more slips', t => {
  t.is(didYouMean('ansible_prot', ['ansible_host', 'ansible_port', 'ansible_user']), 'ansible_port')
  t.is(didYouMean('restart_werkload', ['rotate_service_account_keys', 'restart_workloads']), 'restart_workloads')
})

test.serial('what is far from everything gets no guess', t => {
  t.is(didYouMean('web', ['masters', 'nodes']), undefined)
  t.is(didYouMean('x', ['y1', 'ab']), undefined)
  t.is(didYouMean('', []), undefined)
})
