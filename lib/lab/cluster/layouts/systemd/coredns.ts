// CoreDNS for clusters whose tools bring none: what kubeadm would have deployed, from a manifest.
import { readFileSync } from 'node:fs'
import { ownFile } from '../../../../package.ts'
import { imageRepository, imageTags } from '../../../images.ts'
import type { Shape } from '../../../shape.ts'

/** The address of the Service that pods ask for names. */
export const dnsAddress = ({ serviceSubnet }: Pick<Shape, 'serviceSubnet'>): string => serviceAddress(serviceSubnet, 10)

/** An address of the Services' range, counted from its start: the first is the API's. */
export function serviceAddress(subnet: string, index: number): string {
  const [network] = subnet.split('/')
  const parts = network!.split('.').map(Number)
  return [...parts.slice(0, 3), parts[3]! + index].join('.')
}

/** What is applied to the cluster. */
export const corednsManifest = (shape: Shape): string =>
  readFileSync(ownFile('lib/lab/cluster/manifests/coredns.yaml'), 'utf8')
    .replaceAll('$IMAGE', `${imageRepository}/coredns:${imageTags.coredns}`)
    .replaceAll('$ADDRESS', dnsAddress(shape))
    .replaceAll('$DOMAIN', shape.clusterDomain)
