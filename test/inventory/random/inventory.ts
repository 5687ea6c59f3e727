// Random inventories, as files: groups within groups, hosts, and values that are hard to read right.
import fc from 'fast-check'

/** An inventory on disk: its files by name, and the arguments that name them. */
export interface RandomInventory {
  readonly files: Readonly<Record<string, string>>
  readonly args: readonly string[]
}

const groupNames = ['alpha', 'beta', 'gamma', 'delta', 'eps-1', 'Zeta', 'k8s_nodes', 'all', 'ungrouped']
const hostNames = ['h1', 'h2', 'h10', 'web.example.com', '10.0.0.7', 'Host', 'x-y_z', 'über']
const variableNames = ['a', 'b', 'c', 'ansible_user', 'ansible_port', 'x1', '_p', 'path_to']

/** Text that YAML or Python may take for something else. */
const oddText = fc.oneof(
  fc.constantFrom(
    ...[
      'yes',
      'No',
      'ON',
      'off',
      'y',
      'N',
      '~',
      'null',
      'Null',
      'None',
      'True',
      'true',
      'FALSE',
      'nan',
      '.nan',
      '.inf',
      '-.INF',
      '010',
      '0o10',
      '0x1F',
      '0b11',
    ],
    ...[
      '1_000',
      '1:30',
      '190:20:30',
      '1:60',
      '12:30:45',
      '1e3',
      '1.e3',
      '1.0e+3',
      '1.5',
      '.5',
      '5.',
      '-0',
      '+1',
      '1.0',
      '1.2.3',
      '00',
      '08',
      '1__0',
      '0_1',
    ],
    ...[
      '2001-12-14',
      '2001-12-14 21:59:43',
      '2001-12-14T21:59:43Z',
      '2001-12-14 21:59:43.10 -5',
      '...',
      "it's",
      'a#b',
      'a #b',
      'k=v',
    ],
    ...[
      '{{ a }}',
      '{{ b }} text',
      '{% if a %}x{% endif %}',
      '~/path',
      '$HOME',
      'C:\\new',
      '10.0.0.1',
      'fe80::1',
      '*',
      '&x',
      '!x',
      '@x',
      '%x',
      '`x`',
      '|',
      '>',
      '-',
      '- x',
      '?',
      ': x',
      'x:',
      '[',
      ']',
      '{',
      '}',
      ',',
    ],
  ),
  fc.stringMatching(/^[0-9.:_+\-eExob]{1,8}$/),
  fc.stringMatching(/^[a-zA-Z0-9 _.'"#:,=[\]{}()-]{0,12}$/),
  // Letters that every version of Unicode in use knows: what prints escaped depends on it.
  fc.string({ maxLength: 6, unit: 'grapheme' }).filter(text => !/[^\0-\u1fff\u3000-\ud7ff😀-🙏]/u.test(text)),
)

const scalar = fc.oneof(
  oddText,
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }),
)

type Json = string | number | bigint | boolean | null | Json[] | { [key: string]: Json }
const value = fc.letrec<{ value: Json }>(tie => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    scalar,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(
      fc.oneof(fc.constantFrom('k', 'yes', '1', '~', 'a b'), fc.stringMatching(/^[a-z]{1,4}$/)),
      tie('value'),
      { maxKeys: 3, noNullPrototype: true },
    ),
  ),
})).value

/** A value in flow style, strings quoted: YAML and JSON alike, but for what JSON has no word for. */
function quoted(one: Json): string {
  if (typeof one === 'string')
    return JSON.stringify(one).replace(
      /[\u007f-\u009f\u2028\u2029\ufeff]/g,
      unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
  if (typeof one === 'bigint') return String(one)
  if (typeof one === 'number')
    return Number.isNaN(one) ? '.nan' : Number.isFinite(one) ? JSON.stringify(one) : one > 0 ? '.inf' : '-.inf'
  if (Array.isArray(one)) return `[${one.map(quoted).join(', ')}]`
  if (one === null || typeof one === 'boolean') return String(one)
  return `{${Object.entries(one)
    .map(([key, item]) => `${quoted(key)}: ${quoted(item)}`)
    .join(', ')}}`
}

/** Text that can stand behind `key: ` without quotes. Whether it is a string then, is the question. */
const plainText = oddText.filter(
  text =>
    /^[^\s\-?:,[\]{}#&*!|>'"%@`](?:[^\s:#]|[:#](?=[^\s:#]))*(?: [^\s:#]+)*$|^[-?:][^\s:#,[\]{}]+$/.test(text) &&
    !/\p{C}|\p{Z}(?<! )/u.test(text) &&
    text !== '---' &&
    text !== '...',
)

// The last ones are refused by both programs, and so are rare.
const yamlValue = fc.oneof(
  { arbitrary: plainText, weight: 400 },
  { arbitrary: value.map(quoted), weight: 400 },
  {
    arbitrary: fc.constantFrom(
      '{<<: {a: 1, k: 2}, k: own}',
      '{<<: [{a: 1}, {a: 2, b: 3}], <<: {c: 4}}',
      '{"<<": 1, =: 2}',
      '|\n      two\n        lines\n',
      '>-\n      folded\n      text\n',
    ),
    weight: 30,
  },
  { arbitrary: fc.constantFrom('=', '<<', '2001-13-45'), weight: 1 },
)

const block = (text: string, indent: number): string => text.replace(/^(?=.)/gm, ' '.repeat(indent))

const yamlVariables = fc
  .dictionary(fc.constantFrom(...variableNames), yamlValue, { maxKeys: 4, noNullPrototype: true })
  .map(variables =>
    Object.entries(variables)
      .map(([name, text]) => `${name}: ${text}\n`)
      .join(''),
  )

/** A tree of groups without loops: a group has only groups behind it in the list for children. */
const groups = fc.record({
  children: fc.array(fc.tuple(fc.nat(6), fc.nat(6)), { maxLength: 8 }),
  hosts: fc.array(fc.tuple(fc.nat(8), fc.nat(hostNames.length - 1)), { maxLength: 10 }),
  priorities: fc.array(fc.tuple(fc.nat(6), fc.integer({ min: -2, max: 12 })), { maxLength: 2 }),
})

const yamlInventory = fc
  .tuple(groups, fc.array(yamlVariables, { minLength: 30, maxLength: 30 }), fc.boolean())
  .map(([{ children, hosts, priorities }, variables, nested]) => {
    let next = 0
    const text = groupNames.map((group, index) => {
      const members = [
        ...new Set(
          children
            .filter(([parent, child]) => Math.min(parent, child) === index && parent !== child)
            .map(([parent, child]) => groupNames[Math.max(parent, child)]),
        ),
      ]
      const own = [...new Set(hosts.filter(([parent]) => parent === index).map(([, host]) => hostNames[host]!))]
      const priority = priorities.find(([of]) => of === index)
      let body = ''
      if (own.length > 0) {
        body += 'hosts:\n'
        for (const host of own) body += `  ${JSON.stringify(host)}:\n${block(variables[next++ % variables.length]!, 4)}`
      }
      const vars = `${variables[next++ % variables.length]!}${priority ? `ansible_group_priority: ${priority[1]}\n` : ''}`
      if (vars !== '' && index % 2 === 0) body += `vars:\n${block(vars, 2)}`
      if (members.length > 0) body += `children:\n${members.map(member => `  ${member}:\n`).join('')}`
      return body === '' ? '' : `${group}:\n${block(body, 2)}`
    })
    const all = text.join('')
    return nested && !/^(all|ungrouped):/m.test(all) && all !== ''
      ? `all:\n  children:\n${block(all, 4)}`
      : all || 'all:\n'
  })

/** A word of an INI host line: quoted for shlex or bare. */
const iniValue = fc.oneof(
  oddText.filter(text => !/[\s'"\\#]/.test(text) && text !== ''),
  oddText.map(text => `"${text.replace(/[\\"]/g, '\\$&')}"`),
  oddText.filter(text => !text.includes("'")).map(text => `'${text}'`),
  value.map(one => `'${python(one).replaceAll("'", `'"'"'`)}'`),
)

/** A value as a Python literal. */
function python(one: Json): string {
  if (one === null) return 'None'
  if (typeof one === 'boolean') return one ? 'True' : 'False'
  if (typeof one === 'string')
    return JSON.stringify(one).replace(
      /[\u007f-\ud7ff\ue000-\uffff]/g,
      unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )
  if (typeof one === 'number') return Number.isFinite(one) ? String(one) : '1e999'
  if (typeof one === 'bigint') return String(one)
  if (Array.isArray(one)) return `[${one.map(python).join(', ')}]`
  return `{${Object.entries(one)
    .map(([key, item]) => `${python(key)}: ${python(item)}`)
    .join(', ')}}`
}

const oneLine = (text: string): boolean => !/[\n\r\v\f\x1c-\x1e\x85\u2028\u2029\0]/.test(text)
const iniAssignments = fc.array(
  fc.tuple(fc.constantFrom(...variableNames.filter(name => name !== 'ansible_port')), iniValue.filter(oneLine)),
  { maxLength: 4 },
)
const iniHost = fc.tuple(
  fc.oneof(
    fc.constantFrom(...hostNames),
    fc.constantFrom('n[1:3]', 'n[01:10:4].lab', 'r[a:c]', 's[1:2]x[a:b]', 'h1:2222', 'n[1:2]:22', '[2001:db8::1]:2200'),
  ),
  iniAssignments,
)

const iniInventory = fc
  .tuple(
    groups,
    fc.array(iniHost, { maxLength: 10 }),
    fc.array(fc.tuple(fc.nat(8), fc.constantFrom(...variableNames), oddText.filter(oneLine)), { maxLength: 8 }),
    fc.array(fc.nat(8), { minLength: 10, maxLength: 10 }),
  )
  .map(([{ children, priorities }, hosts, vars, where]) => {
    const sections = new Map<string, string[]>()
    const add = (section: string, line: string): void =>
      void sections.set(section, [...(sections.get(section) ?? []), line])
    for (const [parent, child] of children) {
      if (parent === child) continue
      const [upper, lower] = [groupNames[Math.min(parent, child)]!, groupNames[Math.max(parent, child)]!]
      add(`[${upper}:children]`, lower)
    }
    for (const [index, [name, assignments]] of hosts.entries()) {
      add(`[${groupNames[where[index]!]}]`, [name, ...assignments.map(([key, text]) => `${key}=${text}`)].join(' '))
    }
    for (const [index, name, text] of vars)
      if (name !== 'ansible_port') add(`[${groupNames[index]}:vars]`, `${name}=${text}`)
    for (const [index, priority] of priorities) add(`[${groupNames[index]}:vars]`, `ansible_group_priority=${priority}`)
    // Every group is declared somewhere, in front or behind.
    for (const group of groupNames.slice(0, 7)) if (!sections.has(`[${group}]`)) sections.set(`[${group}]`, [])
    return [...sections].map(([section, lines]) => `${section}\n${lines.join('\n')}\n`).join('')
  })

const folderFiles = (prefix: string) =>
  fc
    .array(
      fc.tuple(
        fc.oneof(
          fc.constantFrom(...groupNames).map(name => `group_vars/${name}`),
          fc.constantFrom(...hostNames).map(name => `host_vars/${name}`),
        ),
        fc.constantFrom('.yml', '.yaml', '.json.yml', '', '/main.yml', '/a.yml', '/.hidden.yml', '/sub/b.yaml'),
        yamlVariables,
      ),
      { maxLength: 6 },
    )
    .map(files => {
      const made: Record<string, string> = {}
      for (const [name, ending, text] of files) {
        const clash = Object.keys(made).some(
          other =>
            other.startsWith(`${prefix}${name}/`) !== ending.startsWith('/') &&
            (other === `${prefix}${name}` || (ending === '' && other.startsWith(`${prefix}${name}/`))),
        )
        if (!clash) made[`${prefix}${name}${ending}`] = text
      }
      return made
    })

const extraVariables = fc.oneof(
  fc.constant([]),
  fc
    .array(fc.tuple(fc.constantFrom(...variableNames), value), { minLength: 1, maxLength: 2 })
    .map(pairs => pairs.flatMap(([name, one]) => ['-e', `{"${name}": ${quoted(one)}}`])),
  fc
    .array(fc.tuple(fc.constantFrom(...variableNames), fc.stringMatching(/^[a-zA-Z0-9_.,:/+-]{1,8}$/)), {
      minLength: 1,
      maxLength: 3,
    })
    .map(pairs => ['-e', pairs.map(([name, text]) => `${name}=${text}`).join(' ')]),
)

/** Inventories of one or two sources, with variables beside them and beside a playbook, and extra variables. */
export const randomInventory: fc.Arbitrary<RandomInventory> = fc
  .record({
    yaml: fc.option(yamlInventory),
    ini: fc.option(iniInventory),
    beside: folderFiles('inventory/'),
    playbook: folderFiles('play/'),
    extra: extraVariables,
    folder: fc.boolean(),
    output: fc.constantFrom(
      ['--list'],
      ['--list'],
      ['--list', '--yaml'],
      ['--graph'],
      ['--list', '--limit', 'all,!h[1]'],
      ['--graph', '--vars'],
    ),
  })
  .map(({ yaml, ini, beside, playbook, extra, folder, output }) => {
    const files: Record<string, string> = { 'play/playbook.yml': '', ...beside, ...playbook }
    if (yaml !== null) files['inventory/20-hosts.yml'] = yaml
    if (ini !== null || yaml === null) files['inventory/10-hosts.ini'] = ini ?? 'h1\n'
    const sources = folder
      ? ['inventory']
      : Object.keys(files)
          .filter(name => /^inventory\/\d/.test(name))
          .sort()
    return {
      files,
      args: [...sources.flatMap(source => ['-i', source]), '--playbook-dir', 'play', ...extra, ...output],
    }
  })
