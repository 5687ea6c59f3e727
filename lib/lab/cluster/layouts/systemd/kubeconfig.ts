// Kubeconfigs as `kubectl config … --embed-certs=true` writes them.

/** What one says: who asks, of whom, and by which certificate. */
export interface KubeconfigContent {
  readonly cluster: string
  readonly server: string
  readonly user: string
  readonly context: string
  /** PEM, as are the next two. */
  readonly authority: string
  readonly certificate: string
  readonly key: string
}

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** The text of the file. */
export const kubeconfig = ({
  cluster,
  server,
  user,
  context,
  authority,
  certificate,
  key,
}: KubeconfigContent): string => `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: ${base64(authority)}
    server: ${server}
  name: ${cluster}
contexts:
- context:
    cluster: ${cluster}
    user: ${user}
  name: ${context}
current-context: ${context}
kind: Config
users:
- name: ${user}
  user:
    client-certificate-data: ${base64(certificate)}
    client-key-data: ${base64(key)}
`
