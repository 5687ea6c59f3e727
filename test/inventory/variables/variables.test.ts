// Variables as playbooks read them: resolved late, strictly, and explained.
import test, { type ExecutionContext } from 'ava'
import { RekeyError } from '../../../lib/errors.ts'
import { type Inventory, type InventoryOptions, loadInventory } from '../../../lib/inventory/index.ts'
import { writeFiles } from '../temporary-files.ts'

async function load(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
  options: Partial<InventoryOptions> = {},
): Promise<Inventory & { folder: string }> {
  const folder = writeFiles(t, files)
  const inventory = await loadInventory({ sources: [Object.keys(files)[0]!], cwd: folder, environment: {}, ...options })
  return Object.assign(inventory, { folder })
}

test.serial('values are plain JavaScript, templates in them resolved', async t => {
  const { hosts } = await load(t, {
    'hosts.yml': `
all:
  vars: {domain: example.com, deep: {url: "https://{{ name }}:{{ port }}", list: ["{{ port }}", 1.0, 2001-12-14]}}
  hosts:
    h1: {name: "h1.{{ domain }}", port: 6443, secure: yes, mode: 0644, raw: !unsafe "{{ x }}"}
`,
  })
  t.deepEqual(
    { ...hosts[0]!.vars },
    {
      domain: 'example.com',
      deep: { url: 'https://h1.example.com:6443', list: [6443, 1, '2001-12-14'] },
      name: 'h1.example.com',
      port: 6443,
      secure: true,
      mode: 0o644,
      raw: '{{ x }}',
    },
  )
})

test.serial("Ansible's own variables are there to be read", async t => {
  const inventory = await load(t, {
    'hosts.ini': '[masters]\nm1.example.com\nm2.example.com a=1\n[cluster:children]\nmasters\n',
    'group_vars/all.yml': `
first: "{{ groups['masters'] | first }}"
others: "{{ groups.masters | difference([inventory_hostname]) }}"
their_a: "{{ hostvars['m2.example.com'].a }}"
short: "{{ inventory_hostname_short }} in {{ group_names | join(',') }}"
peers: "{{ groups['cluster'] | map('extract', hostvars, 'inventory_hostname_short') | join(' ') }}"
beside: "{{ inventory_dir }}/files of {{ inventory_file | basename }}"
mine: "{{ hostvars[inventory_hostname].short }}"
`,
  })
  const { vars } = inventory.host('m1.example.com')
  t.is(vars['first'], 'm1.example.com')
  t.deepEqual(vars['others'], ['m2.example.com'])
  t.is(vars['their_a'], 1)
  t.is(vars['short'], 'm1 in cluster,masters')
  t.is(vars['peers'], 'm1 m2')
  t.is(vars['beside'], `${inventory.folder}/files of hosts.ini`)
  t.is(vars['mine'], vars['short'])
  t.is(vars['inventory_hostname'], 'm1.example.com')
  t.deepEqual(vars['group_names'], ['cluster', 'masters'])
  t.false(Object.keys(vars).includes('hostvars'))
})

test.serial('an undefined variable is an error that names variable, file, line and host, when it is read', async t => {
  const inventory = await load(t, {
    'hosts.ini': '[g]\nh1\n',
    'group_vars/g.yml': 'good: 1\nurl: "https://{{ adress }}/"\naddress: 10.0.0.1\nuses: "{{ url }}x"\n',
  })
  const { vars } = inventory.host('h1')
  t.is(vars['good'], 1)
  const error = t.throws(() => vars['url'], { instanceOf: RekeyError })
  t.is(
    error.message,
    `${inventory.folder}/group_vars/g.yml:2: the variable "url" of h1: "adress" is undefined: did you mean "address"?`,
  )
  t.is(error.host, 'h1')
  const needed = t.throws(() => vars['uses'], { instanceOf: RekeyError })
  t.regex(needed.message, /g\.yml:2: the variable "url" of h1: .* \(needed by "uses" of h1\)$/)
})

test.serial('a fact is undefined, and the error says that none are gathered', async t => {
  const inventory = await load(t, { 'hosts.ini': 'h1 ip="{{ ansible_default_ipv4.address }}"\n' })
  t.throws(() => inventory.host('h1').vars['ip'], {
    message:
      /hosts\.ini:1: the variable "ip" of h1: "ansible_default_ipv4" is undefined: it is not set in the inventory, and no facts are gathered$/,
  })
})

test.serial('variables that refer to each other in a circle are an error with the way round', async t => {
  const inventory = await load(t, {
    'hosts.yml':
      'all:\n  hosts:\n    h1:\n      a: "{{ b }}"\n      b: "{{ c }}!"\n      c: "{{ a }}"\n      own: "{{ own }}"\n      part: {x: "{{ part.y }}", y: "{{ part.x }}"}\n',
  })
  const { vars } = inventory.host('h1')
  t.throws(() => vars['a'], {
    message:
      /the variable "c" of h1: it refers to itself \(a → b → c → a\) \(needed by "a" of h1\)$|it refers to itself \(a → b → c → a\)/,
  })
  t.throws(() => vars['own'], { message: /hosts\.yml:7: the variable "own" of h1: it refers to itself$/ })
  t.throws(() => vars['part'], { message: /the variable "part" of h1: it refers to itself/ })
})

test.serial(
  'what is read by way of hostvars has no hostvars, so that a variable may look for itself, as in Ansible',
  async t => {
    const inventory = await load(t, {
      'hosts.yml': `
all:
  hosts:
    h1:
      n: "{{ hostvars[inventory_hostname].n | default('etcd1') }}"
      b: "{{ hostvars[inventory_hostname].b }}"
      c: "{{ hostvars[inventory_hostname].c is defined }}"
      d: "{{ hostvars[inventory_hostname].n }}x"
      f: "{{ hostvars['h1'].g | default('F') }}"
      g: "{{ f }}g"
      j: "{{ hostvars['h2'].j | default('J') }}"
    h2:
      j: "{{ hostvars['h1'].j | default('J2') }}"
`,
    })
    const { b: _b, ...others } = Object.getOwnPropertyDescriptors(inventory.host('h1').vars)
    const read = Object.keys(others).filter(name => others[name]!.enumerable)
    t.deepEqual(Object.fromEntries(read.map(name => [name, inventory.host('h1').vars[name]])), {
      n: 'etcd1',
      c: true,
      d: 'etcd1x',
      f: 'Fg',
      g: 'Fgg',
      j: 'J2',
    })
    t.throws(() => inventory.host('h1').vars['b'], {
      message: /the variable "b" of h1: "hostvars" is undefined: it is not there in what is read by way of hostvars/,
    })
  },
)

test.serial('what YAML has by an alias is no alias again in to_yaml; what a template has twice is', async t => {
  const inventory = await load(t, {
    'hosts.yml': `
all:
  hosts:
    h1:
      m: {a: &x [1], b: *x}
      n: *x
      aliased: "{{ m | to_nice_yaml }}"
      elsewhere: "{{ [m.a, n] | to_yaml }}"
      twice: "{{ {'p': m.a, 'q': m['a']} | to_nice_yaml }}"
`,
  })
  const { vars } = inventory.host('h1')
  t.is(vars['aliased'], 'a:\n- 1\nb:\n- 1\n')
  t.is(vars['elsewhere'], '- [1]\n- [1]\n')
  t.is(vars['twice'], 'p: &id001\n- 1\nq: *id001\n')
})

test.serial('what a template changes is its own: no other one sees it', async t => {
  const inventory = await load(t, {
    'hosts.yml': `
all:
  vars:
    deep: {list: [1], map: {a: 1}}
  hosts:
    h1:
      one: "{% set _ = deep.list.append(2) %}{% set _ = deep.map.update({'b': 2}) %}{{ deep }}"
      two: "{{ deep.list.pop() }}{{ deep }}"
      other: "{{ hostvars.h2.deep.list.append(3) }}{{ hostvars.h2.deep.list }}"
    h2:
`,
  })
  const { vars } = inventory.host('h1')
  t.deepEqual(vars['one'], { list: [1, 2], map: { a: 1, b: 2 } })
  t.is(vars['two'], "1{'list': [], 'map': {'a': 1}}")
  t.deepEqual(vars['other'], [1])
  t.deepEqual(vars['deep'], { list: [1], map: { a: 1 } })
  t.deepEqual(inventory.host('h2').vars['deep'], { list: [1], map: { a: 1 } })
})

test.serial('an element that refers to its neighbour is no circle', async t => {
  const inventory = await load(t, {
    'hosts.yml': 'all:\n  hosts:\n    h1:\n      paths: {root: /etc/x, certs: "{{ paths.root }}/pki"}\n',
  })
  t.deepEqual(inventory.host('h1').vars['paths'], { root: '/etc/x', certs: '/etc/x/pki' })
})

test.serial('what only Ansible can do is refused by name', async t => {
  const inventory = await load(t, {
    'hosts.yml': `
all:
  hosts:
    h1:
      url: "{{ lookup('url', 'http://127.0.0.1') }}"
      ran: "{{ query('pipe', 'true') }}"
      address: "{{ '10.0.0.0/8' | ipaddr('network') }}"
      random: "{{ 5 | random }}"
      wrong: "{{ 'x' | uper }}"
      python: "{{ 'x'.encode() }}"
      syntax: "{{ 1 + }}"
      include: "{% include 'x' %}"
`,
  })
  const { vars } = inventory.host('h1')
  const message = (name: string): string =>
    t.throws(() => vars[name], { instanceOf: RekeyError }).message.replace(/^.*of h1: /, '')
  t.regex(message('url'), /^the lookup "url" is not one that rekey has: they are dict, env, file, /)
  t.is(
    message('ran'),
    'the lookup "pipe": it runs a command on this machine, which it does only where REKEY_LOOKUP_PIPE=yes is set',
  )
  t.is(message('address'), `the filter "ipaddr" needs Python's netaddr and runs in Ansible only`)
  t.is(message('random'), 'gives another result at every run, and so is refused; with a seed it does not')
  t.is(message('wrong'), 'the filter "uper" is not one that rekey has; did you mean "upper"?')
  t.is(message('python'), '".encode()" is not one that rekey has')
  t.is(message('syntax'), `its template can't be read: the expression ends too early`)
  t.is(
    message('include'),
    `its template can't be read: {% include %} is not one that rekey has: lookup('template', …) reads other files`,
  )
})

test.serial('every place that sets a variable is explained, the winner last', async t => {
  const inventory = await load(
    t,
    {
      'hosts.ini': '[masters]\nm1 port=1\nm1 port=2\n[masters:vars]\nport=3\n[all:vars]\nport=4\n',
      'group_vars/all.yml': 'port: 5\nother: 1\n',
      'group_vars/masters/a.yml': 'port: 6\n',
      'group_vars/masters/b.yml': '# b\nport: {a: [1, "x"]}\n',
      'host_vars/m1.yml': 'port: 7\n',
      'play/host_vars/m1.yml': 'port: 8\n',
    },
    { extraVars: ['port=9', '{"port": "ten"}'], playbookDirectory: 'play' },
  )
  const { host, variable, places } = inventory.explain('m1', 'port')
  t.is(`${variable} of ${host}`, 'port of m1')
  t.deepEqual(
    places.map(({ layer, where, value }) => [where.replace(`${inventory.folder}/`, ''), value, layer]),
    [
      ['hosts.ini:7', '4', 'group all'],
      ['hosts.ini:5', '3', 'group masters'],
      ['group_vars/all.yml:1', '5', 'group_vars/all beside the inventory'],
      ['group_vars/masters/a.yml:1', '6', 'group_vars/masters beside the inventory'],
      ['group_vars/masters/b.yml:2', '{"a": [1, "x"]}', 'group_vars/masters beside the inventory'],
      ['hosts.ini:2', '1', 'host m1'],
      ['hosts.ini:3', '2', 'host m1'],
      ['host_vars/m1.yml:1', '7', 'host_vars/m1 beside the inventory'],
      ['play/host_vars/m1.yml:1', '8', 'host_vars/m1 beside the playbook'],
      ['-e', '"9"', 'extra variables (-e)'],
      ['-e:1', '"ten"', 'extra variables (-e)'],
    ],
  )
  t.deepEqual(places.map(({ won }) => won).lastIndexOf(true), places.length - 1)
  t.is(inventory.host('m1').vars['port'], 'ten')
  const unset = t.throws(() => inventory.explain('m1', 'prot'), { instanceOf: RekeyError })
  t.is(unset.message, 'nothing sets "prot" for m1')
  t.is(unset.hint, 'Did you mean "port"?')
  t.throws(() => inventory.explain('m2', 'port'), { message: 'there is no host "m2" in the inventory' })
})

test.serial('maps with hostile keys stay maps', async t => {
  const inventory = await load(t, {
    'hosts.yml': 'all:\n  hosts:\n    h1: {__proto__: {x: 1}, m: {__proto__: {polluted: 1}, constructor: 2}}\n',
  })
  const { vars } = inventory.host('h1')
  t.is(({} as { polluted?: number }).polluted, undefined)
  t.deepEqual(Object.entries(vars['m'] as object), [
    ['__proto__', { polluted: 1 }],
    ['constructor', 2],
  ])
  t.regex(inventory.list(), /"__proto__"/)
})

test.serial('keys of maps keep their types and their order', async t => {
  const inventory = await load(t, {
    'hosts.yml': `
all:
  hosts:
    h1:
      m: {10: a, 2: b, "10": c, true: d, 1.5: e, ~: f, 2001-12-14: g}
      n: {"2": x, "1": y}
      found: "{{ m['10'] ~ m[10] ~ m[2] ~ m[1] ~ m[1.5] ~ m[none] }}"
      missing: "{{ m['2'] | default('none') }}"
      types: "{{ m | dict2items | map(attribute='key') | map('type_debug') | list }}"
      ordered: "{{ n | list + (n | combine({'0': 'z'}) | list) }}"
      one: "{{ {1: 'a', '1': 'b', true: 'c'} | dict2items }}"
      member: "{{ 10 in m and '2' not in m }}"
`,
  })
  const { vars } = inventory.host('h1')
  t.is(vars['found'], 'cabdef')
  t.is(vars['missing'], 'none')
  t.deepEqual(vars['types'], ['int', 'int', 'str', 'bool', 'float', 'NoneType', 'date'])
  t.deepEqual(vars['ordered'], ['2', '1', '2', '1', '0'])
  t.deepEqual(vars['one'], [
    { key: 1, value: 'c' },
    { key: '1', value: 'b' },
  ])
  t.is(vars['member'], true)
  t.regex(inventory.describeHost('h1', { yaml: true }), /^ +10: a$/m)
})
