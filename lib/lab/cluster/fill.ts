// Puts states that real clusters are found in into a lab's cluster, and waits until each is there.
import { RekeyError } from '../../errors.ts'
import { waitFor } from '../command.ts'
import { exec, tryExec } from '../machines/machine.ts'
import { type Report, timed } from '../progress.ts'
import { type Machine, masters, nodes, type Shape } from '../shape.ts'
import { kubectl } from './cluster.ts'
import { layoutOf } from './layouts/index.ts'
import { type State, states } from './states.ts'

const withKubectl = (shape: Shape, script: string) => `export KUBECONFIG=${layoutOf(shape).adminKubeconfig}\n${script}`

/**
 * Puts a lab's cluster, which must be up, into states by their names, or into all that it can be in. One that is there already stays.
 * @throws RekeyError `lab.options` for a name that is none, or a state that this lab can't be in; `lab.timeout` where one does not come about
 */
export async function fill(shape: Shape, names: readonly string[], report: Report): Promise<void> {
  const chosen: [string, State][] = []
  for (const name of names.length > 0 ? names : Object.keys(states)) {
    const state = stateOf(name)
    const impossible = state.impossible?.(shape)
    if (impossible === undefined) chosen.push([name, state])
    else if (names.length === 0) report({ kind: 'note', text: `${name} is left out: ${impossible}` })
    else throw new RekeyError(`${name}: ${impossible}`, { code: 'lab.options', hint: 'Make another lab for it.' })
  }
  // Several states share a namespace.
  const namespaces = chosen.flatMap(([, { objects = [] }]) => objects).filter(isNamespace)
  if (namespaces.length > 0) await apply(shape, namespaces)
  for (const last of [undefined, true] as const) {
    const now = chosen.filter(([, state]) => state.last === last)
    const done = now.map(([name, state]) => timed(report, `${name}: ${state.summary}`, () => put(shape, state)))
    for (const one of await Promise.allSettled(done)) if (one.status === 'rejected') throw one.reason
  }
}

function stateOf(name: string): State {
  const state = Object.hasOwn(states, name) ? states[name] : undefined
  if (state) return state
  throw new RekeyError(`there is no state '${name}' to fill a lab with`, {
    code: 'lab.options',
    hint: `There is: ${Object.keys(states).join(', ')}`,
  })
}

async function put(shape: Shape, { objects = [], scripts = [], shown }: State): Promise<void> {
  const others = objects.filter(one => !isNamespace(one))
  if (others.length > 0) await apply(shape, others)
  for (const { on, script } of scripts)
    for (const { name } of machinesOf(shape, on))
      await exec(shape.name, name, ['sh', '-c', withKubectl(shape, script)], { timeout: 120 })
  if (shown === undefined) return
  const [first] = masters(shape)
  await waitFor(
    'it to be there',
    180,
    async () =>
      (await tryExec(shape.name, first!.name, ['sh', '-c', withKubectl(shape, shown)])).code === 0 || undefined,
    { every: 1000 },
  )
}

const isNamespace = (object: object) => 'kind' in object && object.kind === 'Namespace'

async function apply(shape: Shape, items: readonly object[]): Promise<void> {
  await kubectl(shape, ['apply', '-f', '-'], { input: JSON.stringify({ apiVersion: 'v1', kind: 'List', items }) })
}

type Where = NonNullable<State['scripts']>[number]['on']

function machinesOf(shape: Shape, where: Where): Machine[] {
  if (where === 'masters') return masters(shape)
  return (where === 'first master' ? masters(shape) : nodes(shape)).slice(0, 1)
}
