// What a command on this machine gets of rekey's own environment.
import test from 'ava'
import type { Connection } from '../../lib/connection/connection.ts'
import { tellSecretsOf, withoutSecrets } from '../../lib/connection/environment.ts'
import { connectLocal } from '../../lib/connection/local.ts'
import { remoteShell } from '../../lib/connection/remote.ts'
import type { ConnectionSettings } from '../../lib/connection/settings.ts'
import { redactor } from '../../lib/output/redaction.ts'

const connection = connectLocal('h1', { user: 'me' } as ConnectionSettings)

test.serial("rekey's secrets are not handed to commands; one that is named is", async t => {
  const secrets = { VAULT_TOKEN: 'of-the-vault', REKEY_CA_PASSPHRASE: 'of-the-ca', MY_SERVICE_PASSWORD: 'of-a-service' }
  Object.assign(process.env, secrets, { PLAIN_WORD: 'to-be-seen' })
  t.teardown(() => {
    for (const name of [...Object.keys(secrets), 'PLAIN_WORD']) delete process.env[name]
  })
  const $ = remoteShell(connection)
  const { stdout } = await $`env`
  t.true(stdout.includes('PLAIN_WORD=to-be-seen'))
  t.notRegex(stdout, /of-the-vault|of-the-ca|of-a-service/)
  const named = await $({ environment: ['VAULT_TOKEN'] })`env`
  t.true(named.stdout.includes('VAULT_TOKEN=of-the-vault'))
  t.notRegex(named.stdout, /of-the-ca|of-a-service/)
})

test('on another machine there is nothing to hand on', t => {
  const elsewhere: Connection = { ...connection, name: 'h2', local: undefined }
  t.throws(() => remoteShell(elsewhere)({ environment: ['VAULT_TOKEN'] })`env`, { code: 'command.environment' })
})

test('secrets are told by their names: tokens, passwords and keys, not the files and addresses beside them', t => {
  const secret = [
    'VAULT_TOKEN',
    'VAULT_SECRET_ID',
    'REKEY_CA_PASSPHRASE',
    'PGPASSWORD',
    'MYSQL_PWD',
    'AWS_SECRET_ACCESS_KEY',
    'aws_session_token',
    'X_API_KEY',
    'SSHPASS',
    'DB_PASS',
    'REDISCLI_AUTH',
    'DOCKER_AUTH_CONFIG',
    'KUBE_CLIENT_KEY_DATA',
    'VAULT_UNSEAL_KEY',
  ]
  const plain = [
    'VAULT_ADDR',
    'VAULT_CLIENT_KEY',
    'VAULT_SECRET_ID_FILE',
    'PWD',
    'OLDPWD',
    'SSH_AUTH_SOCK',
    'PATH',
    'GOOGLE_APPLICATION_CREDENTIALS',
    'AWS_ACCESS_KEY_ID',
    'COMPASS',
    'XAUTHORITY',
    'SORT_KEY',
  ]
  const environment = Object.fromEntries([...secret, ...plain].map(name => [name, `the value of ${name}`]))
  t.deepEqual(Object.keys(withoutSecrets(environment)), plain)
  const ofClouds = { GOOGLE_CREDENTIALS: '{"private_key":"of-a-cloud"}', TLS_KEY: '-----BEGIN PRIVATE KEY-----\nabc' }
  t.deepEqual(
    withoutSecrets({ ...ofClouds, GOOGLE_CREDENTIALS_FILE: '/x', SSH_KEY: '~/.ssh/id', CREDENTIALS: './c' }),
    {
      ...{ GOOGLE_CREDENTIALS_FILE: '/x', SSH_KEY: '~/.ssh/id', CREDENTIALS: './c' },
    },
  )
  tellSecretsOf({ ...environment, SHORT_TOKEN: 'true' })
  t.is(redactor().text('the value of MYSQL_PWD, the value of PATH, true'), '«redacted», the value of PATH, true')
})

test('the password in an address is told: a command gets the address, and may print it', t => {
  tellSecretsOf({
    HTTPS_PROXY: 'http://me:of%2Fthe-proxy@127.0.0.1:1',
    DATABASE_URL: 'postgres://u:of-a-database@h/db',
    // A word that stands everywhere.
    QUEUE_URL: 'amqp://rabbitmq:rabbitmq@h',
  })
  t.deepEqual(withoutSecrets({ HTTPS_PROXY: 'http://me:x@h' }), { HTTPS_PROXY: 'http://me:x@h' })
  t.is(
    redactor().text('http://me:of%2Fthe-proxy@127.0.0.1:1 of/the-proxy postgres://u:of-a-database@h/db rabbitmq'),
    'http://me:«redacted»@127.0.0.1:1 «redacted» postgres://u:«redacted»@h/db rabbitmq',
  )
})
