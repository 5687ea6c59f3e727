// The arrows between the rooms of the house, as docs/architecture.md draws them. Checked by `npm run arrows`.
const only = (library, folders) => ({
  name: `only-${folders.replaceAll(/[^a-z]+/g, '-')}-imports-${library.replaceAll(/[^a-z0-9]+/g, '-')}`,
  severity: 'error',
  from: { path: '^(lib|playbooks)/', pathNot: `^lib/(${folders})/` },
  to: { path: `node_modules/(${library})/`, dependencyTypesNot: ['type-only'] },
})
const never = (from, to) => ({
  name: `${from.replaceAll('|', '-')}-not-${to.replaceAll('|', '-')}`,
  severity: 'error',
  from: { path: `^lib/(${from})/` },
  to: { path: `^lib/(${to})/` },
})

module.exports = {
  forbidden: [
    {
      name: 'no-circles',
      severity: 'error',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'playbooks-import-the-public-api',
      severity: 'error',
      from: { path: '^playbooks/' },
      to: { path: '^lib/', pathNot: '^lib/index\\.ts$' },
    },
    {
      name: 'nobody-imports-the-command-line',
      severity: 'error',
      from: { path: '^(lib|playbooks)/', pathNot: '^lib/cli/' },
      to: { path: '^lib/cli/' },
    },
    never('run', 'pki|kubernetes|template|operations|output|inventory|lab'),
    never('connection', 'playbook|run|output|operations|kubernetes|pki|template|inventory|lab'),
    never('playbook', 'run|output|operations|kubernetes|pki|template|inventory|lab'),
    never('output', 'connection|operations|kubernetes|pki|template|inventory|lab'),
    never('inventory', 'run|output|operations|kubernetes|pki|template|lab'),
    never('pki|template', 'run|output|operations|kubernetes|inventory|lab|playbook'),
    never('operations', 'run|output|kubernetes|pki|template|inventory|lab'),
    never('kubernetes', 'run|output|inventory|lab'),
    never('lab', 'run|output|inventory|kubernetes'),
    only('node-ssh|ssh2', 'connection'),
    only('node-vault|node-forge', 'pki'),
    only('listr2', 'output'),
    only('js-yaml', 'inventory|kubernetes'),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { extensions: ['.ts', '.js'] },
  },
}
