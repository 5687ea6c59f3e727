// zod as playbooks have it that an installed rekey runs: the one that is in rekey's own files.
export * from 'zod'
export { default } from 'zod'
