// The two passes, one request for one question, strictness, and the places that errors name.
import test from 'ava'
import { RekeyError } from '../../lib/errors.ts'
import { vaultSecrets } from '../../lib/pki/vault/secrets.ts'
import { createRenderer, type SecretRequest, type SecretSource } from '../../lib/template/render.ts'
import { issue } from '../pki/certificates/_certificates.ts'

/** A source that answers from a table and keeps what it was asked, with how many requests were under way at once. */
function sourceOf(answers: Record<string, Record<string, unknown>>) {
  const asked: SecretRequest[] = []
  let running = 0
  let mostAtOnce = 0
  const secrets: SecretSource = async (path, data) => {
    asked.push({ path, data })
    mostAtOnce = Math.max(mostAtOnce, ++running)
    await new Promise(resolve => setImmediate(resolve))
    running--
    if (path === 'broken') throw new RekeyError('Vault is sealed', { code: 'vault.sealed', hint: 'Unseal it.' })
    return answers[path] && { data: answers[path] }
  }
  return { secrets, asked, mostAtOnce: () => mostAtOnce }
}

async function render(text: string, answers: Record<string, Record<string, unknown>> = {}, data = {}) {
  return (await createRenderer(sourceOf(answers)).render(text, { name: 'a.tpl', data })).output
}

const fails = async (text: string, answers: Record<string, Record<string, unknown>> = {}) =>
  render(text, answers).then(
    output => `rendered ${JSON.stringify(output)}`,
    (error: Error) => error.message,
  )

test.serial("renders the document's API server template as it stands", async t => {
  const template = `{{- /* apiserver-cert.tpl */ -}}
{{ with secret "pki_k8s/issue/kubernetes" "common_name=kube-apiserver" "alt_names=kubernetes, kubernetes.default, kubernetes.default.svc, kubernetes.default.svc.kubernetes, yourdomain.tld" "ip_sans=100.64.0.1, IP.ADDRESS.MASTER.1, IP.ADDRESS.MASTER.2, IP.ADDRESS.MASTER.3" "exclude_cn_from_sans=true" "ttl=17520h" }}
{{ .Data.certificate }}{{ end}}`
  const { secrets, asked } = sourceOf({ 'pki_k8s/issue/kubernetes': { certificate: 'THE CERTIFICATE' } })
  const { output, requests } = await createRenderer({ secrets }).render(template, { name: 'apiserver-cert.tpl' })
  t.is(output, '\nTHE CERTIFICATE')
  t.deepEqual(asked, [
    {
      path: 'pki_k8s/issue/kubernetes',
      data: {
        common_name: 'kube-apiserver',
        alt_names:
          'kubernetes, kubernetes.default, kubernetes.default.svc, kubernetes.default.svc.kubernetes, yourdomain.tld',
        ip_sans: '100.64.0.1, IP.ADDRESS.MASTER.1, IP.ADDRESS.MASTER.2, IP.ADDRESS.MASTER.3',
        exclude_cn_from_sans: 'true',
        ttl: '17520h',
      },
    },
  ])
  t.deepEqual(requests, asked)
})

test.serial('asks for all secrets of a pass at once, and for those behind them in the next', async t => {
  const source = sourceOf({ a: { next: 'c' }, b: { value: 'B' }, c: { value: 'C' } })
  const template =
    '{{ with secret "a" }}{{ with secret .Data.next }}{{ .Data.value }}{{ end }}{{ end }}{{ with secret "b" }}{{ .Data.value }}{{ end }}'
  const { output } = await createRenderer(source).render(template, { name: 'a.tpl' })
  t.is(output, 'CB')
  t.deepEqual(
    source.asked.map(request => request.path),
    ['a', 'b', 'c'],
  )
  t.is(source.mostAtOnce(), 2)
})

test.serial('what is written waits for all that is read: it may hang on that', async t => {
  const source = sourceOf({ kv: { name: 'a.example.org' }, 'pki/issue/web': { certificate: 'C' } })
  const template =
    '{{ $name := "" }}{{ with secret "kv" }}{{ $name = .Data.name }}{{ end }}' +
    '{{ with secret "pki/issue/web" (printf "common_name=%s" $name) (file "ttl" | printf "ttl=%s") }}{{ .Data.certificate }}{{ end }}'
  const renderer = createRenderer({ ...source, readFile: async () => '5h' })
  t.is((await renderer.render(template, { name: 'a.tpl' })).output, 'C')
  t.deepEqual(source.asked, [
    { path: 'kv', data: undefined },
    { path: 'pki/issue/web', data: { common_name: 'a.example.org', ttl: '5h' } },
  ])
})

test.serial('one renderer asks the same question once, also for templates that render side by side', async t => {
  const source = sourceOf({ 'pki/issue/web': { certificate: 'CERTIFICATE', private_key: 'KEY' } })
  const renderer = createRenderer(source)
  const of = (field: string, order: string) =>
    renderer.render(`{{ with secret "pki/issue/web" ${order} }}{{ .Data.${field} }}{{ end }}`, { name: field })
  const [certificate, key] = await Promise.all([
    of('certificate', '"common_name=web" "ttl=1h"'),
    of('private_key', '"ttl=1h" "common_name = web"'),
  ])
  t.deepEqual([certificate.output, key.output], ['CERTIFICATE', 'KEY'])
  t.is(source.asked.length, 1)
  await of('certificate', '"common_name=other" "ttl=1h"')
  t.is(source.asked.length, 2)
})

test.serial('a request that failed is made again by the next render of the same renderer', async t => {
  let sealed = true
  const renderer = createRenderer({
    secrets: async () => {
      if (sealed) throw new RekeyError('Vault is sealed', { code: 'vault.sealed' })
      return { data: { value: 'V' } }
    },
  })
  const template = '{{ with secret "a" }}{{ .Data.value }}{{ end }}'
  await t.throwsAsync(renderer.render(template, { name: 'a.tpl' }), { message: 'a.tpl:1:9: Vault is sealed' })
  sealed = false
  t.is((await renderer.render(template, { name: 'a.tpl' })).output, 'V')
})

test.serial('a failure of the source keeps its code and hint, and gets the place of the call', async t => {
  const renderer = createRenderer(sourceOf({}))
  const error = await t.throwsAsync<RekeyError>(
    renderer.render('# certificate\n  {{ with secret "broken" }}{{ .Data.x }}{{ end }}', { name: 'ca.tpl' }),
    { instanceOf: RekeyError },
  )
  t.is(error.message, 'ca.tpl:2:11: Vault is sealed')
  t.is(error.code, 'vault.sealed')
  t.is(error.hint, 'Unseal it.')
})

test.serial('refuses what consul-template would write to disk in silence', async t => {
  const answers = { a: { certificate: 'C', nothing: null } }
  t.is(
    await fails('x\n{{ with secret "a" }}{{ .Data.certficate }}{{ end }}', answers),
    'a.tpl:2:25: .Data.certficate has no value; there is certificate, nothing (consul-template would write "<no value>")',
  )
  t.is(
    await fails('{{ with secret "a" }}\n {{ .Data.nothing }}{{ end }}', answers),
    'a.tpl:2:5: .Data.nothing has no value; there is certificate, nothing (consul-template would write "<no value>")',
  )
  t.is(await fails('{{ with secret "gone" }}{{ .Data.a }}{{ end }}'), 'a.tpl:1:9: no secret exists at gone')
  t.regex(
    await fails('{{ with secret "a" }}{{ .Data.constructor }}{{ end }}', answers),
    /\.Data\.constructor has no value/,
  )
  t.regex(await fails('{{ .Anything }}'), /^a\.tpl:1:4: \.Anything has no value/)
  t.regex(await fails('{{ with secret "a" "oops" }}{{ end }}'), /^a\.tpl:1:9: secret: every argument .* "key=value"/)
})

test.serial('refuses an empty key and an empty CA of pkiCert, and a lease shorter than asked', async t => {
  const { pem } = await issue({ name: 'CN=leaf' })
  const of = (field: string) =>
    fails(`{{ with pkiCert "pki/sign/web" "csr=x" }}{{ ${field} }}{{ end }}`, { 'pki/sign/web': { certificate: pem } })
  t.is(await of('.Cert | len'), `rendered "${pem.length}"`)
  t.is(await of('.'), "a.tpl:1:45: a certificate can't be printed as a whole: name one of its fields")
  t.is(await of('if .Key }}{{ end'), 'rendered ""')
  t.is(await of('.Key'), 'a.tpl:1:45: .Key has no value (consul-template would write "")')
  t.regex(await of('.CA | writeToFile "/a" "" "" "0600"'), /^a\.tpl:1:51: writeToFile: \.CA has no value/)
  const write = async () => ({ data: {}, auth: { client_token: 't', lease_duration: 3600 } })
  const token = (ttl: string) =>
    createRenderer({ secrets: vaultSecrets({ read: async () => undefined, write }) })
      .render(`{{ with secret "auth/token/create" "ttl=${ttl}" }}{{ .Auth.ClientToken }}{{ end }}`, { name: 'a.tpl' })
      .then(
        ({ output }) => output,
        ({ message }: Error) => message,
      )
  t.is(await token('1h'), 't')
  t.is(
    await token('2h'),
    'a.tpl:1:9: auth/token/create answered with a lease of 3600 s, shorter than the ttl of 2h that was asked',
  )
})

test.serial('says where a template can not be parsed, and which function it does not know', async t => {
  t.regex(await fails('a\n{{ with secret "a" }}'), /^a\.tpl:\d+:\d+: /)
  t.regex(await fails('a\n  {{ certificates }}'), /^a\.tpl:2:6: function "certificates" is not known/)
})

test.serial('what has no end, or is nested deeper than anybody means, is one error with its place', async t => {
  const twice = '{{ template "a" $n }}{{ template "a" $n }}'
  t.is(await fails('{{ range loop 1 300000000 }}{{ end }}'), 'a.tpl:1:1: goes on after 1000000 rounds')
  t.regex(
    await fails(`{{ define "a" }}{{ if . }}{{ $n := subtract 1 . }}${twice}{{ end }}{{ end }}{{ template "a" 40 }}`),
    /^a\.tpl:1:\d+: goes on after 1000000 rounds$/,
  )
  t.is(await fails('a{{ sprig_repeat 17000000 "x" }}'), 'a.tpl:1:5: writes more than 16 MiB')
  t.is(await fails('{{ printf "%.1000000001f" 1.5 }}'), 'a.tpl:1:4: printf: a width or precision is more than 1000000')
  t.regex(await fails(`{{ ${'('.repeat(20_000)}1${')'.repeat(20_000)} }}`), /^a\.tpl: is nested too deep/)
  t.regex(await fails('{{ if true }}'.repeat(20_000) + '{{ end }}'.repeat(20_000)), /^a\.tpl: is nested too deep/)
})

test.serial('a template that asks for something new in every pass is stopped', async t => {
  let count = 0
  const renderer = createRenderer({ secrets: async () => ({ data: { value: `v${count++}` } }) })
  const source =
    '{{ $p := "p0" }}{{ range $i := (split "," "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26") }}' +
    '{{ with secret (printf "%s/%s" $p $i) }}{{ $p = .Data.value }}{{ else }}{{ break }}{{ end }}{{ end }}'
  const error = await t.throwsAsync<RekeyError>(renderer.render(source, { name: 'loop.tpl' }))
  t.is(error.code, 'template.endless')
})

test.serial('assigns to the variable that was declared outside, as Go does', async t => {
  const answers = { a: { key: 'K' } }
  t.is(await render('{{ $k := "" }}{{ with secret "a" }}{{ $k = .Data.key }}{{ end }}{{ $k }}', answers), 'K')
  t.is(await render('{{ $k := 1 }}{{ range (split "," "a,b") }}{{ $k = . }}{{ end }}{{ $k }}'), 'b')
  t.is(await render('{{ $k := 1 }}{{ if true }}{{ $k := 2 }}{{ end }}{{ $k }}'), '1')
  t.regex(await fails('{{ if true }}{{ $k := 2 }}{{ end }}{{ $k }}'), /undefined variable \$k/)
  t.regex(await fails('{{ $k = 2 }}'), /undefined variable \$k/)
})

test.serial("inside a named template $ is its argument and the caller's variables are out of sight", async t => {
  t.is(await render('{{ define "t" }}{{ $ }}{{ . }}{{ end }}{{ template "t" "x" }}'), 'xx')
  t.regex(await fails('{{ define "t" }}{{ $k }}{{ end }}{{ $k := 1 }}{{ template "t" }}'), /undefined variable \$k/)
  t.is(await render('{{ block "t" "x" }}{{ $ }}{{ end }}'), 'x')
})

test.serial('the dot is what the caller gives, and environment variables are only those given', async t => {
  t.is(await render('{{ .Names | join "," }}', {}, { Names: ['a', 'b'] }), 'a,b')
  // As a whole it is as empty as in consul-template.
  const empty = '{{ if . }}y{{ else }}n{{ end }}{{ with . }}y{{ end }}{{ with .Names }}{{ len . }}{{ end }}'
  t.is(await render(empty, {}, { Names: ['a', 'b'] }), 'n2')
  const renderer = createRenderer({ ...sourceOf({}), environment: { NODE: 'm1' } })
  const text = '{{ env "NODE" }}{{ env "PATH" }}{{ envOrDefault "X" "y" }}'
  t.is((await renderer.render(text, { name: 'a.tpl' })).output, 'm1y')
  await t.throwsAsync(renderer.render('{{ mustEnv "PATH" }}', { name: 'a.tpl' }), { message: /PATH is not set/ })
})

test.serial('other delimiters leave braces alone', async t => {
  const renderer = createRenderer(sourceOf({ a: { v: '1' } }))
  const text = '{{ x }} <% with secret "a" %><% .Data.v %><% end %>'
  const { output } = await renderer.render(text, { name: 'a.tpl', delimiters: { left: '<%', right: '%>' } })
  t.is(output, '{{ x }} 1')
})
