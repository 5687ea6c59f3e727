// The settings of a repository: what each is called in rekey.yml, in the environment and in ansible.cfg.

/** Where a setting may stand beside rekey.yml, and what it is. */
export interface SettingKind {
  /** A text, several, or yes or no. */
  readonly shape: 'text' | 'texts' | 'yes'
  readonly variable?: string
  readonly section?: string
  readonly key?: string
  /** Paths in it start at the file that has it. */
  readonly path?: true
}

const kind = (
  shape: SettingKind['shape'],
  [variable, section, key]: readonly [variable?: string, section?: string, key?: string] = [],
  path?: true,
): SettingKind => ({ shape, variable, section, key, path })

/** By their names in rekey.yml: a dot is a level. */
export const settings = {
  inventory: kind('texts', ['ANSIBLE_INVENTORY', 'defaults', 'inventory'], true),
  playbooks: kind('texts', [], true),
  vault_ids: kind('texts', ['ANSIBLE_VAULT_IDENTITY_LIST', 'defaults', 'vault_identity_list'], true),
  vault_password_file: kind('text', ['ANSIBLE_VAULT_PASSWORD_FILE', 'defaults', 'vault_password_file'], true),
  forks: kind('text', ['ANSIBLE_FORKS', 'defaults', 'forks']),
  'connection.kind': kind('text', ['ANSIBLE_TRANSPORT', 'defaults', 'transport']),
  'connection.user': kind('text', ['ANSIBLE_REMOTE_USER', 'defaults', 'remote_user']),
  'connection.private_key': kind('text', ['ANSIBLE_PRIVATE_KEY_FILE', 'defaults', 'private_key_file'], true),
  'connection.timeout': kind('text', ['ANSIBLE_TIMEOUT', 'defaults', 'timeout']),
  'connection.ssh_common_args': kind('text', ['ANSIBLE_SSH_COMMON_ARGS', 'ssh_connection', 'ssh_common_args']),
  'connection.ssh_extra_args': kind('text', ['ANSIBLE_SSH_EXTRA_ARGS', 'ssh_connection', 'ssh_extra_args']),
  'connection.ask_pass': kind('yes', ['ANSIBLE_ASK_PASS', 'defaults', 'ask_pass']),
  'connection.password_file': kind(
    'text',
    ['ANSIBLE_CONNECTION_PASSWORD_FILE', 'defaults', 'connection_password_file'],
    true,
  ),
  'connection.become': kind('yes', ['ANSIBLE_BECOME', 'privilege_escalation', 'become']),
  'connection.become_user': kind('text', ['ANSIBLE_BECOME_USER', 'privilege_escalation', 'become_user']),
  'connection.become_method': kind('text', ['ANSIBLE_BECOME_METHOD', 'privilege_escalation', 'become_method']),
  'connection.ask_become_pass': kind('yes', ['ANSIBLE_BECOME_ASK_PASS', 'privilege_escalation', 'become_ask_pass']),
  'connection.become_password_file': kind(
    'text',
    ['ANSIBLE_BECOME_PASSWORD_FILE', 'defaults', 'become_password_file'],
    true,
  ),
  'view.output': kind('text'),
  'view.verbose': kind('yes'),
  'view.diff': kind('yes', ['ANSIBLE_DIFF_ALWAYS', 'diff', 'always']),
  'view.keep_output': kind('text'),
} as const satisfies Record<string, SettingKind>

export type SettingName = keyof typeof settings

/** The kind of a setting, its name as its type. */
export const settingKind = (name: SettingName): SettingKind => settings[name]

/** The setting that one of ansible.cfg is. */
export const settingOf = (section: string, key: string): SettingName | undefined =>
  (Object.keys(settings) as SettingName[]).find(
    name => settingKind(name).section === section && settingKind(name).key === key,
  )
