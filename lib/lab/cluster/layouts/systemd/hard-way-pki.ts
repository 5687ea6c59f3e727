// The PKI of Kubernetes the hard way: its ca.conf, with the lab's names and addresses in it, and the commands of its chapter 4.
import { kubeletMachines, loadBalancer, masters, type Shape } from '../../../shape.ts'
import { serviceAddress } from './coredns.ts'
import { makePki, type Pki } from './openssl.ts'

/** The certificates beside the CA's own, by the names of their files without an end. */
const certificates = (shape: Shape): string[] => [
  'admin',
  ...kubeletMachines(shape).map(({ hostname }) => hostname),
  ...['kube-proxy', 'kube-scheduler', 'kube-controller-manager', 'kube-api-server', 'service-accounts'],
]

/** What its authors typed, but for two keys at a time. */
export const hardWayPki = (shape: Shape): Promise<Pki> =>
  makePki(
    { 'ca.conf': caConf(shape) },
    `
openssl genrsa -out ca.key 4096
openssl req -x509 -new -sha512 -noenc -key ca.key -days 3653 -config ca.conf -out ca.crt
certs="${certificates(shape).join(' ')}"
echo $certs | xargs -n 1 | xargs -P 2 -I NAME openssl genrsa -out NAME.key 4096
for i in $certs; do
  openssl req -new -key $i.key -sha256 -config ca.conf -section $i -out $i.csr
  openssl x509 -req -days 3653 -in $i.csr -copy_extensions copyall -sha256 \\
    -CA ca.crt -CAkey ca.key -CAcreateserial -out $i.crt
done
`,
  )

const place = 'C  = US\nST = Washington\nL  = Seattle'

/** A certificate that is made for servers, too, as its authors make nearly all of them. */
const section = (name: string, comment: string, subject: string, alternatives: string, type = 'client') => `
[${name}]
distinguished_name = ${name}_distinguished_name
prompt             = no
req_extensions     = ${name}_req_extensions

[${name}_req_extensions]
basicConstraints     = CA:FALSE
extendedKeyUsage     = clientAuth, serverAuth
keyUsage             = critical, digitalSignature, keyEncipherment
nsCertType           = ${type}
nsComment            = "${comment}"
subjectAltName       = ${alternatives}
subjectKeyIdentifier = hash

[${name}_distinguished_name]
${subject}
${place}
`

/** Component, comment, user and group; the group of the scheduler is theirs to the letter. */
const components = [
  ['kube-proxy', 'Kube Proxy Certificate', 'system:kube-proxy', 'system:node-proxier'],
  [
    'kube-controller-manager',
    'Kube Controller Manager Certificate',
    'system:kube-controller-manager',
    'system:kube-controller-manager',
  ],
  ['kube-scheduler', 'Kube Scheduler Certificate', 'system:kube-scheduler', 'system:system:kube-scheduler'],
] as const

/** The configuration that openssl works by. */
export function caConf(shape: Shape): string {
  const nodes = kubeletMachines(shape).map(({ hostname }) =>
    section(
      hostname,
      `${hostname} Certificate`,
      `CN = system:node:${hostname}\nO  = system:nodes`,
      // As they have it: without the address of the node.
      `DNS:${hostname}, IP:127.0.0.1`,
    ),
  )
  const clients = components.map(([name, comment, user, group]) =>
    section(name, comment, `CN = ${user}\nO  = ${group}`, `DNS:${name}, IP:127.0.0.1`),
  )
  // Theirs is one server. What asks several controllers, and etcd's members one another, meets their addresses.
  const addresses = [
    '127.0.0.1',
    serviceAddress(shape.serviceSubnet, 1),
    ...masters(shape).map(({ address }) => address),
    ...[loadBalancer(shape)?.address ?? []].flat(),
  ]
  const names = [
    ...['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster'],
    ...[`kubernetes.svc.${shape.clusterDomain}`, 'server.kubernetes.local', 'api-server.kubernetes.local'],
  ]
  return `[req]
distinguished_name = req_distinguished_name
prompt             = no
x509_extensions    = ca_x509_extensions

[ca_x509_extensions]
basicConstraints = CA:TRUE
keyUsage         = cRLSign, keyCertSign

[req_distinguished_name]
${place}
CN = CA

[admin]
distinguished_name = admin_distinguished_name
prompt             = no
req_extensions     = default_req_extensions

[admin_distinguished_name]
CN = admin
O  = system:masters

[service-accounts]
distinguished_name = service-accounts_distinguished_name
prompt             = no
req_extensions     = default_req_extensions

[service-accounts_distinguished_name]
CN = service-accounts
${nodes.join('')}${clients.join('')}${section(
  'kube-api-server',
  'Kube API Server Certificate',
  'CN = kubernetes',
  '@kube-api-server_alt_names',
  'client, server',
)}
[kube-api-server_alt_names]
${addresses.map((address, index) => `IP.${index}  = ${address}`).join('\n')}
${names.map((name, index) => `DNS.${index} = ${name}`).join('\n')}

[default_req_extensions]
basicConstraints     = CA:FALSE
extendedKeyUsage     = clientAuth
keyUsage             = critical, digitalSignature, keyEncipherment
nsCertType           = client
nsComment            = "Admin Client Certificate"
subjectKeyIdentifier = hash
`
}
