// kubeadm's layout, whole: where it keeps what, which ports they are presented on.
export * from './as-found.ts'
export * from './endpoints.ts'
export * from './files.ts'
