// Webhooks whose caBundle holds more than the cluster's CA, as real clusters have them: what is in each before a rotation, and after it.
import { strict as assert } from 'node:assert'

/** What the bundles hold, by the name of their webhook, with a CA of the cluster and one of somebody else. */
const holding = (ca: string, other: string): Record<string, string> => ({
  alone: ca,
  first: ca + other,
  second: other + ca,
  comment: `# the cluster's\n${ca}`,
  foreign: other,
})

/** The same before a rotation, with what does not come back in the CA that is put in place. */
const before = (ca: string, other: string): Record<string, string> => ({
  ...holding(ca, other),
  crlf: ca.replaceAll('\n', '\r\n'),
  unended: ca.trimEnd(),
  twice: ca + other + ca,
})
const after = (ca: string, other: string): Record<string, string> => ({
  ...holding(ca, other),
  ...{ crlf: ca, unended: ca, twice: ca + other },
})

const configuration = 'validatingwebhookconfiguration rekey-test'

/** Runs a script on a master, with KUBECONFIG set. */
type Kubectl = (script: string) => Promise<string>

/** Makes a configuration with these webhooks, which nothing calls. Returns the other CA. */
export async function makeBundles(kubectl: Kubectl, ca: string): Promise<string> {
  const other = await kubectl(
    `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout /dev/null -subj /CN=other -days 30 2>/dev/null`,
  )
  const webhooks = Object.entries(before(withNewline(ca), withNewline(other))).map(([name, bundle]) => ({
    name: `${name}.rekey.example.org`,
    clientConfig: { url: 'https://127.0.0.1:9', caBundle: Buffer.from(bundle).toString('base64') },
    rules: [{ apiGroups: ['rekey.example.org'], apiVersions: ['v1'], operations: ['CREATE'], resources: ['things'] }],
    ...{ admissionReviewVersions: ['v1'], sideEffects: 'None', failurePolicy: 'Ignore' },
  }))
  const object = {
    ...{ apiVersion: 'admissionregistration.k8s.io/v1', kind: 'ValidatingWebhookConfiguration' },
    ...{ metadata: { name: 'rekey-test' }, webhooks },
  }
  await kubectl(`kubectl delete ${configuration} --ignore-not-found >/dev/null
kubectl create -f - >/dev/null <<'END'
${JSON.stringify(object)}
END`)
  return other
}

/** Throws unless each bundle holds what it must, with the CA of now: as a rotation leaves them, or byte for byte as they were. */
export async function assertBundles(
  kubectl: Kubectl,
  ca: string,
  other: string,
  as: 'rotated' | 'before',
): Promise<void> {
  const { webhooks } = JSON.parse(await kubectl(`kubectl get ${configuration} -o json`)) as {
    webhooks: { name: string; clientConfig: { caBundle: string } }[]
  }
  const found = webhooks.map(({ name, clientConfig }) => [
    name.split('.')[0],
    Buffer.from(clientConfig.caBundle, 'base64').toString(),
  ])
  assert.deepEqual(Object.fromEntries(found), (as === 'rotated' ? after : before)(withNewline(ca), withNewline(other)))
}

const withNewline = (pem: string) => `${pem.trim()}\n`
