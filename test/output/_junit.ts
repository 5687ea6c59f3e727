// Whether a report is what readers of JUnit's format take: well-formed, nothing but what their schemas know, and counted right.

interface Element {
  readonly name: string
  readonly attributes: Readonly<Record<string, string>>
  readonly children: Element[]
}

/** By element: the attributes that it must have, those that it may have, and its children. */
const schema: Record<string, { must: string[]; may: string[]; children: string[] }> = {
  testsuites: { must: ['name', 'tests', 'failures', 'errors', 'time'], may: [], children: ['testsuite'] },
  testsuite: {
    must: ['name', 'tests', 'failures', 'errors', 'time', 'timestamp', 'hostname'],
    may: ['skipped'],
    children: ['testcase'],
  },
  testcase: { must: ['name', 'classname', 'time'], may: [], children: ['skipped', 'error', 'failure', 'system-out'] },
  failure: { must: ['message', 'type'], may: [], children: [] },
  error: { must: ['message', 'type'], may: [], children: [] },
  skipped: { must: ['message'], may: [], children: [] },
  'system-out': { must: [], may: [], children: [] },
}

/** What is wrong with a report, if anything. */
export function junitProblems(xml: string): string[] {
  const problems: string[] = []
  if (!xml.startsWith('<?xml version="1.0" encoding="UTF-8"?>\n')) problems.push('no declaration')
  if (/[\x00-\x08\x0b\x0c\x0e-\x1f]/.test(xml)) problems.push('a character that XML does not have')
  const top: Element = { name: 'document', attributes: {}, children: [] }
  const open = [top]
  const text = xml.slice(xml.indexOf('\n'))
  for (const [found, end, name = '', attributes = '', empty] of text.matchAll(
    /<(\/?)([\w-]+)((?:\s+[\w-]+="[^"<]*")*)(\/?)>|[^<]+|</g,
  )) {
    if (name === '') {
      if (found === '<' || /&(?!(amp|lt|gt|quot);)/.test(found)) problems.push(`not well-formed at ${found}`)
    } else if (end) {
      if (open.pop()?.name !== name) problems.push(`</${name}> ends another element`)
    } else {
      const entries = [...attributes.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value])
      const element = { name, attributes: Object.fromEntries(entries) as Record<string, string>, children: [] }
      open.at(-1)?.children.push(element)
      if (!empty) open.push(element)
    }
  }
  if (open.length !== 1 || top.children.length !== 1) problems.push('elements are left open')
  const walk = ({ name, attributes, children }: Element) => {
    const { must = [], may = [], children: known = [] } = schema[name] ?? {}
    if (!schema[name]) problems.push(`unknown element ${name}`)
    for (const key of must) if (!(key in attributes)) problems.push(`${name} lacks ${key}`)
    for (const key of Object.keys(attributes)) if (![...must, ...may].includes(key)) problems.push(`${name} has ${key}`)
    const order = children.map(child => known.indexOf(child.name))
    if (order.includes(-1) || order.some((at, index) => at < (order[index - 1] ?? 0)))
      problems.push(`${name} has children that it can't have`)
    for (const child of children) walk(child)
    const cases = casesOf({ name, attributes, children })
    if ('tests' in attributes && Number(attributes['tests']) !== cases.length)
      problems.push(`${name} miscounts its tests`)
    for (const [kind, key] of [
      ['failure', 'failures'],
      ['error', 'errors'],
      ['skipped', 'skipped'],
    ] as const) {
      const count = cases.filter(one => one.children.some(child => child.name === kind)).length
      if (key in attributes && Number(attributes[key]) !== count) problems.push(`${name} miscounts its ${key}`)
    }
    if ('timestamp' in attributes && !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$/.test(attributes['timestamp'] ?? ''))
      problems.push('a timestamp that is none')
  }
  for (const element of top.children) walk(element)
  return problems
}

function casesOf({ name, children }: Element): Element[] {
  return children
    .flatMap(child => (child.name === 'testcase' ? [child] : casesOf(child)))
    .filter(() => name !== 'testcase')
}
