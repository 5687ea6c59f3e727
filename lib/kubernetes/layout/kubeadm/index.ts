// kubeadm's layout, whole: where it keeps what, which certificates it makes, which ports they are presented on.
export * from './as-found.ts'
export * from './certificates.ts'
export * from './endpoints.ts'
export * from './files.ts'
