// A server for an application, from its package to its port: twenty tasks of Ansible's, as docs/from-ansible.md shows them side by side.
import {
  archive,
  authorizedKey,
  blockInFile,
  command,
  fetch,
  file,
  lineInFile,
  packages,
  play,
  playbook,
  replaceInFile,
  type StepContext,
  service,
  step,
  template,
  unarchive,
  user,
  waitForPort,
} from 'rekey'
import { z } from 'zod'

const vars = z.object({
  root: z.string().default(''),
  release: z.string().default('1.4.2'),
  app_port: z.number().default(8080),
  upstreams: z.array(z.string()).default(['10.0.0.11', '10.0.0.12']),
  deploy_key: z
    .string()
    .default('ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEkUgFBkH2f3Ks0AHjr0RzbkZgZz0PDH0Fqj0Yk4XhV1 deploy'),
  downloads: z.string().default('files'),
  fetched: z.string().default('fetched'),
})

type Context = StepContext<z.output<typeof vars>>

export default playbook({
  name: 'app-server',
  summary: 'Sets up a server for the application.',
  vars,
  plays: [
    play<Context>(
      'Set up the application',
      {
        hosts: 'all',
        handlers: [step('Restart the application', service({ name: 'app', state: 'restarted', daemonReload: true }))],
      },
      [
        step('Install what it needs', {
          tags: ['system'],
          ...packages({ name: ['nginx', 'jq'], updateCache: true, cacheValidTime: 3600 }),
        }),
        step('Have an account for it', {
          tags: ['system'],
          ...user({ name: 'app', system: true, shell: '/usr/sbin/nologin' }),
        }),
        step('Let the pipeline in', {
          tags: ['system'],
          ...authorizedKey(({ vars }: Context) => ({ user: 'app', key: vars.deploy_key })),
        }),
        step(
          'Make its folders',
          file(({ vars: { root, release } }: Context) => [
            { path: `${root}/etc/app`, state: 'directory', mode: '0750' },
            { path: `${root}/opt/app/${release}`, state: 'directory', mode: '0755' },
            { path: `${root}/var/lib/app`, state: 'directory', mode: '0700' },
          ]),
        ),
        step(
          'Unpack the release',
          unarchive(({ vars: { root, release, downloads } }: Context) => ({
            src: `${downloads}/app-${release}.tar.gz`,
            dest: `${root}/opt/app/${release}`,
            creates: `${root}/opt/app/${release}/bin/app`,
          })),
        ),
        step(
          'Make it the current one',
          file(({ vars: { root, release } }: Context) => ({
            path: `${root}/opt/app/current`,
            src: release,
            state: 'link',
          })),
        ),
        step('Write its configuration', {
          notify: 'restart-the-application',
          ...template(({ vars: { root } }: Context) => ({
            src: 'app.conf.j2',
            dest: `${root}/etc/app/app.conf`,
            mode: '0640',
            backup: true,
            validate: 'grep -q ^port %s',
          })),
        }),
        step('Write its unit', {
          notify: 'restart-the-application',
          ...template(({ vars: { root } }: Context) => ({
            content:
              '[Service]\nUser=app\nExecStart={{ root }}/opt/app/current/bin/app\n[Install]\nWantedBy=multi-user.target\n',
            dest: `${root}/etc/systemd/system/app.service`,
          })),
        }),
        step('Say how many files it may open', {
          notify: 'restart-the-application',
          ...lineInFile(({ vars: { root } }: Context) => ({
            path: `${root}/etc/default/app`,
            regexp: '^#?\\s*LIMIT_NOFILE=',
            line: 'LIMIT_NOFILE=65536',
            create: true,
          })),
        }),
        step(
          'Log in by keys alone',
          lineInFile(({ vars: { root } }: Context) => [
            {
              path: `${root}/etc/ssh/sshd_config`,
              regexp: '^#?PasswordAuthentication',
              line: 'PasswordAuthentication no',
            },
            {
              path: `${root}/etc/ssh/sshd_config`,
              regexp: '^#?PermitRootLogin',
              line: 'PermitRootLogin prohibit-password',
            },
          ]),
        ),
        step(
          'Know the other servers',
          blockInFile(({ vars: { root, upstreams } }: Context) => ({
            path: `${root}/etc/hosts`,
            marker: '# {mark} app',
            block: upstreams.map((address, index) => `${address} upstream-${index + 1}`).join('\n'),
          })),
        ),
        step(
          'Call the database by its new name',
          replaceInFile(({ vars: { root } }: Context) => ({
            path: `${root}/etc/app/database.ini`,
            after: '\\[primary\\]',
            regexp: '\\bdb-old\\.example\\b',
            replace: 'db.example',
          })),
        ),
        step(
          'Make the schema',
          command(({ vars: { root } }: Context) => ({
            argv: [`${root}/opt/app/current/bin/app`, 'migrate', `${root}/var/lib/app/schema`],
            creates: `${root}/var/lib/app/schema`,
          })),
        ),
        step(
          'Remove the configuration of before',
          file(({ vars: { root } }: Context) => ({ path: `${root}/etc/app.conf`, state: 'absent' })),
        ),
        step(
          'Keep an archive of its configuration',
          archive(({ vars: { root } }: Context) => ({
            path: `${root}/etc/app`,
            dest: `${root}/var/lib/app/etc.tar.gz`,
            mode: '0600',
          })),
        ),
        step(
          'Bring its version here',
          fetch(({ vars: { root, fetched } }: Context) => ({ src: `${root}/opt/app/current/VERSION`, dest: fetched })),
        ),
        step('Start it with the machine', {
          tags: ['system'],
          ...service({ name: 'app', state: 'started', enabled: true, daemonReload: true }),
        }),
        step('Wait until it listens', {
          tags: ['system'],
          ...waitForPort(({ vars }: Context) => ({ port: vars.app_port, timeout: 60_000 })),
        }),
        step('Ask for its health', {
          tags: ['system'],
          readOnly: true,
          retries: 5,
          delay: 1_000,
          run: ({ $, vars }: Context) => $`curl -fsS http://127.0.0.1:${vars.app_port}/health`,
        }),
        step('Note the release', {
          run: async ({ $, vars }: Context) => {
            await $`printf '%s\n' ${vars.release} >${vars.root}/var/lib/app/release`
          },
          check: async ({ $, vars }: Context) =>
            (await $({ nothrow: true })`cat ${vars.root}/var/lib/app/release`).stdout === `${vars.release}\n`,
          irreversible: 'it says which release was there last',
        }),
      ],
    ),
  ],
})
