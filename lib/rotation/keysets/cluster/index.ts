// What the cluster's own CA has beside the others: what is signed with on request, what is published for clients, pods that hold it.
export { keepNewKeys, keepPublished } from './new-keys.ts'
export { noneBehind, restartBehind } from './pods.ts'
export { noteBelieved, publishedEverywhere } from './published.ts'
export { keyIsKept, maySign, signWithNext } from './signing.ts'
export { signApart, signTogether } from './signing-apart.ts'
export { distrustedCopies, signsWithNext, signsWithPrimary, stagedCopies, trustedCopies } from './stages.ts'
