// `rekey ca`: a CA that rekey keeps itself, in an encrypted file, for teams without Vault: made or brought in, given roles and URLs, listed.
import { readFileSync } from 'node:fs'
import { Command, InvalidArgumentError } from 'commander'
import { RekeyError } from '../errors.ts'
import { give, say } from '../output/print.ts'
import { visibleJson } from '../output/text.ts'
import { parseCertificate } from '../pki/certificates/certificate.ts'
import { readPkcs12 } from '../pki/certificates/pkcs12.ts'
import type { EmbeddedIssuer } from '../pki/issuer/embedded-issuer.ts'
import type { SealedFileKey } from '../pki/issuer/sealed-file.ts'
import type { RoleSettings } from '../pki/vault/contract.ts'
import { tellSecret } from '../secrets/index.ts'
import { example } from './options/help.ts'
import { positiveInteger } from './options/whole-number.ts'

/** What opens the file. */
export interface CaKeyOptions {
  passphraseFile?: string
  keyFile?: string
}

/** Add the options that say how the file is opened. */
export function withCaKeyOptions(command: Command): Command {
  return command
    .option('--passphrase-file <path>', 'holds the passphrase of the CA file (else REKEY_CA_PASSPHRASE)')
    .option('--key-file <path>', 'opens the CA file instead of a passphrase: 32 random bytes or more')
}

/** Open the CA file by what was asked. Throws `RekeyError` where nothing opens it. */
export async function openCa(file: string, { passphraseFile, keyFile }: CaKeyOptions): Promise<EmbeddedIssuer> {
  const key: SealedFileKey = keyFile === undefined ? { passphrase: passphraseOf(passphraseFile) } : { keyFile }
  // Loaded here: its X.509 library takes a while, and most templates ask Vault.
  const { openEmbeddedIssuer } = await import('../pki/issuer/embedded-issuer.ts')
  return openEmbeddedIssuer(file, key)
}

function passphraseOf(file: string | undefined): string {
  const passphrase = file === undefined ? process.env['REKEY_CA_PASSPHRASE'] : readFirstLine(file)
  if (passphrase) {
    tellSecret(passphrase, 'the passphrase of the CA file')
    return passphrase
  }
  throw new RekeyError('nothing opens the CA file', {
    code: 'issuer.passphrase',
    hint: 'Give --passphrase-file or --key-file, or set REKEY_CA_PASSPHRASE.',
  })
}

/** The command `rekey ca`, for `lib/cli/main.ts` to mount. */
export function caCommand(): Command {
  const command = new Command('ca').description('keep a CA in an encrypted file, for clusters without Vault')
  const part = (name: string, description: string) => withCaKeyOptions(command.command(name).description(description))
  part('create', 'make a root CA in a mount of the file, and print its certificate')
    .addHelpText(
      'after',
      example(
        'one whose certificates hold ten years at most',
        "rekey ca create ca.json pki_k8s --common-name 'Kubernetes CA' --ttl 3650d",
      ),
    )
    .argument('<file>', 'the CA file; made where it is missing')
    .argument('<mount>', 'the mount, as templates name it: the `pki_k8s` of `pki_k8s/issue/kubernetes`')
    .requiredOption('--common-name <name>', 'the CN of the CA')
    .option('--ttl <duration>', 'how long it holds, and at most what it issues', '87600h')
    .option('--key-type <type>', 'rsa, ec or ed25519', 'rsa')
    .option('--key-bits <number>', 'of the key', positiveInteger)
    .action(async (file: string, mount: string, options: CreateOptions) => {
      await withCa(file, options, async ca => {
        const { commonName, ttl, keyType, keyBits } = options
        await ca.ensureMount(mount, { maxLeaseTtl: ttl })
        const root = await ca.generateRoot(mount, { commonName, ttl, type: 'internal', keyType, keyBits })
        await ca.setDefaultIssuer(mount, root.issuerId)
        give(root.certificate)
      })
    })
  part('import', 'bring a CA and its key into a mount of the file, from PKCS#12')
    .addHelpText(
      'after',
      example(
        'the CA that a cluster has',
        'rekey ca import ca.json pki_k8s ca.p12 --bundle-passphrase-file bundle.pass',
      ),
    )
    .argument('<file>', 'the CA file; made where it is missing')
    .argument('<mount>', 'the mount')
    .argument('<bundle>', 'the .p12 or .pfx file')
    .option('--bundle-passphrase-file <path>', 'holds the password of the bundle (else it has none)')
    .option('--ttl <duration>', 'how long what it issues may hold at most', '43800h')
    .action(async (file: string, mount: string, bundle: string, options: ImportOptions) => {
      const password = options.bundlePassphraseFile === undefined ? '' : readFirstLine(options.bundlePassphraseFile)
      const content = await readPkcs12(readBytes(bundle), password, bundle)
      await withCa(file, options, async ca => {
        const certificate = await ca.importKeyPair(mount, content, { maxLeaseTtl: options.ttl })
        say(`${mount}: ${parseCertificate(certificate).subject}`)
      })
    })
  part('role', 'write a role of a mount, in the words of Vault')
    .addHelpText(
      'after',
      example(
        'one by which any name may be issued for 90 days',
        'rekey ca role ca.json pki_k8s web allow_any_name=true max_ttl=90d',
      ),
    )
    .argument('<file>', 'the CA file')
    .argument('<mount>', 'the mount')
    .argument('<role>', 'its name')
    .argument('[settings...]', 'key=value')
    .action(async (file: string, mount: string, role: string, words: string[], options: CaKeyOptions) => {
      const settings = roleSettings(words)
      await withCa(file, options, async ca => {
        const { changed } = await ca.ensureRole(mount, role, settings)
        say(`${mount}/roles/${role}: ${changed ? 'written' : 'as it was'}`)
      })
    })
  part('urls', 'say what the certificates of a mount tell of their CRL, their OCSP server and their CA')
    .addHelpText(
      'after',
      example(
        'where its certificates say that revoked ones are listed',
        'rekey ca urls ca.json pki_k8s --crl http://pki.example.com/crl',
      ),
    )
    .argument('<file>', 'the CA file')
    .argument('<mount>', 'the mount')
    .option('--crl <url>', 'where its CRL is; may be repeated', repeated)
    .option('--ocsp <url>', 'where its OCSP server is; may be repeated', repeated)
    .option('--issuing <url>', 'where its CA certificate is; may be repeated', repeated)
    .action(async (file: string, mount: string, { crl = [], ocsp = [], issuing = [], ...options }: UrlOptions) => {
      await withCa(file, options, ca => ca.setUrls(mount, { crl, ocsp, issuing }))
    })
  part('list', 'print what the file has issued, as JSON lines')
    .addHelpText('after', example('all of it', 'rekey ca list ca.json'))
    .argument('<file>', 'the CA file')
    .action(async (file: string, options: CaKeyOptions) => {
      await withCa(file, options, async ca => {
        for (const entry of ca.index()) give(`${visibleJson(entry)}\n`)
      })
    })
  return command
}

interface CreateOptions extends CaKeyOptions {
  commonName: string
  ttl: string
  keyType: 'rsa' | 'ec' | 'ed25519'
  keyBits?: number
}

interface UrlOptions extends CaKeyOptions {
  crl?: string[]
  ocsp?: string[]
  issuing?: string[]
}

const repeated = (url: string, before: string[] = []) => {
  if (/^https?:$/.test(URL.parse(url)?.protocol ?? '')) return [...before, url]
  throw new InvalidArgumentError('It must be an http:// or https:// URL.')
}

interface ImportOptions extends CaKeyOptions {
  bundlePassphraseFile?: string
  ttl: string
}

async function withCa(file: string, options: CaKeyOptions, work: (ca: EmbeddedIssuer) => Promise<void>): Promise<void> {
  const ca = await openCa(file, options)
  try {
    await work(ca)
  } finally {
    ca.close()
  }
}

const kinds: Record<keyof RoleSettings, 'text' | 'bool' | 'number' | 'list'> = {
  issuer_ref: 'text',
  allowed_domains: 'list',
  allow_bare_domains: 'bool',
  allow_subdomains: 'bool',
  allow_glob_domains: 'bool',
  allow_wildcard_certificates: 'bool',
  allow_any_name: 'bool',
  enforce_hostnames: 'bool',
  allow_localhost: 'bool',
  allow_ip_sans: 'bool',
  cn_validations: 'list',
  require_cn: 'bool',
  allowed_uri_sans: 'list',
  use_csr_common_name: 'bool',
  use_csr_sans: 'bool',
  server_flag: 'bool',
  client_flag: 'bool',
  code_signing_flag: 'bool',
  email_protection_flag: 'bool',
  ext_key_usage: 'list',
  key_type: 'text',
  key_bits: 'number',
  key_usage: 'list',
  organization: 'list',
  ou: 'list',
  country: 'list',
  province: 'list',
  locality: 'list',
  ttl: 'text',
  max_ttl: 'text',
  not_before_duration: 'text',
}

/** `key=value` as `vault write` takes them. Throws `RekeyError` for settings that are not known, and for bad values. */
function roleSettings(words: readonly string[]): RoleSettings {
  return Object.fromEntries(
    words.map(word => {
      const [, name = word, value] = /^([^=]*)=(.*)$/s.exec(word) ?? []
      const kind = Object.hasOwn(kinds, name) ? kinds[name as keyof RoleSettings] : undefined
      if (value === undefined || kind === undefined) {
        throw bad(value === undefined ? `"${word}" is no key=value` : `"${name}" is no setting of a role`)
      }
      if (kind === 'list') return [name, value.split(',').flatMap(one => one.trim() || [])]
      if (kind === 'text') return [name, value]
      if (kind === 'bool' && /^(true|false)$/.test(value)) return [name, value === 'true']
      if (kind === 'number' && /^\d+$/.test(value)) return [name, Number(value)]
      throw bad(`"${name}" must be ${kind === 'bool' ? 'true or false' : 'a number'}`)
    }),
  )
}

const bad = (message: string) =>
  new RekeyError(message, { code: 'issuer.role', hint: `Known here are ${Object.keys(kinds).sort().join(', ')}.` })

const readFirstLine = (file: string) => readBytes(file).toString('utf8').split('\n')[0]!.replace(/\r$/, '')

function readBytes(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    throw new RekeyError(`${file}: can't be read (${(cause as NodeJS.ErrnoException).code})`, {
      code: 'issuer.file',
      cause,
    })
  }
}
