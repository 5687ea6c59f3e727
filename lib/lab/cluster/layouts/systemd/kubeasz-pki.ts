// The PKI of kubeasz: what its roles ask cfssl for, asked of openssl, field by field. One CA signs everything.
import { kubeletMachines, loadBalancer, type Machine, masters, type Shape } from '../../../shape.ts'
import { serviceAddress } from './coredns.ts'
import { makePki, type Pki } from './openssl.ts'

/** A certificate as one of its `…-csr.json` asks for it. */
interface Request {
  readonly name: string
  readonly user: string
  readonly group: string
  readonly hosts: readonly string[]
}

/** The file of a machine's kubelet on the deploying host, without an end. */
export const kubeletOf = ({ hostname }: Machine): string => `${hostname}-kubelet`

function requestsOf(shape: Shape): Request[] {
  const controllers = masters(shape).map(({ address }) => address)
  const client = (name: string, user: string, group: string): Request => ({ name, user, group, hosts: [] })
  const names = ['', '.default', '.default.svc', '.default.svc.cluster', '.default.svc.cluster.local']
  return [
    client('admin', 'admin', 'system:masters'),
    client('kube-proxy', 'system:kube-proxy', 'k8s'),
    client('kube-controller-manager', 'system:kube-controller-manager', 'system:kube-controller-manager'),
    client('kube-scheduler', 'system:kube-scheduler', 'system:kube-scheduler'),
    client('aggregator-proxy', 'aggregator', 'k8s'),
    { name: 'etcd', user: 'etcd', group: 'k8s', hosts: [...controllers, '127.0.0.1'] },
    {
      name: 'kubernetes',
      user: 'kubernetes',
      group: 'k8s',
      hosts: [
        '127.0.0.1',
        ...controllers,
        serviceAddress(shape.serviceSubnet, 1),
        // Its MASTER_CERT_HOSTS.
        ...[loadBalancer(shape)?.address ?? []].flat(),
        'k8s.easzlab.io',
        ...names.map(name => `kubernetes${name}`),
      ],
    },
    ...kubeletMachines(shape).map(machine => ({
      name: kubeletOf(machine),
      user: `system:node:${machine.hostname}`,
      group: 'system:nodes',
      hosts: ['127.0.0.1', machine.address, machine.hostname],
    })),
  ]
}

const alternative = (host: string, index: number) =>
  /^[\d.]+$/.test(host) ? `IP.${index} = ${host}` : `DNS.${index} = ${host}`

/** The configuration that openssl signs by. */
export const signingConfig = ({ hosts }: Pick<Request, 'hosts'>): string => `[leaf]
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
${hosts.length > 0 ? `subjectAltName = @hosts\n\n[hosts]\n${hosts.map(alternative).join('\n')}\n` : ''}`

/** In the order that cfssl writes it. */
const subject = (user: string, group: string) => `/C=CN/ST=HangZhou/L=XS/O=${group}/OU=System/CN=${user}`

/** Its CA_EXPIRY and CERT_EXPIRY are 876000 and 438000 hours. */
const days = { authority: 36_500, leaf: 18_250 }

/** Makes it. */
export function kubeaszPki(shape: Shape): Promise<Pki> {
  const { files, script } = kubeaszSteps(shape)
  return makePki(files, script)
}

/** What openssl is given, and asked: two keys at a time. */
export function kubeaszSteps(shape: Shape): { files: Record<string, string>; script: string } {
  const requests = requestsOf(shape)
  const files = Object.fromEntries(requests.map(request => [`${request.name}.cnf`, signingConfig(request)]))
  const key = (name: string) => `openssl genrsa -out ${name}-key.pem 2048`
  const lines = requests.flatMap(({ name, user, group }) => [
    `openssl req -new -key ${name}-key.pem -sha256 -subj '${subject(user, group)}' -out ${name}.csr`,
    `openssl x509 -req -in ${name}.csr -CA ca.pem -CAkey ca-key.pem -days ${days.leaf} -sha256 \\
      -extfile ${name}.cnf -extensions leaf -out ${name}.pem`,
  ])
  const script = `
${key('ca')}
openssl req -x509 -new -key ca-key.pem -sha256 -days ${days.authority} -subj '${subject('kubernetes-ca', 'k8s')}' \\
  -addext 'keyUsage=critical,keyCertSign,cRLSign' -out ca.pem
echo ${requests.map(({ name }) => name).join(' ')} | xargs -n 1 | xargs -P 2 -I NAME ${key('NAME')}
${lines.join('\n')}
`
  return { files, script }
}
