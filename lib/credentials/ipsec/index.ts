// What `rotate-ipsec-key` is made of.
export { find, noteErrors, settled } from './find.ts'
export { type Context, type Variables, variables } from './given.ts'
export { alone, loaded, make, noDrops, put, report, restart, wayBack } from './rotate.ts'
