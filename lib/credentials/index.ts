// The door `rekey/credentials`: what playbooks are made of that rotate what pods and nodes of a cluster show to others: to registries, and to each other.
export * as ipsec from './ipsec/index.ts'
export * as registry from './registry/index.ts'
