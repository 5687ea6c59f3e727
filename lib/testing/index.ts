// The door `rekey/testing`: tests of one's own playbooks, with whichever runner one has. A rehearsal is what an operator would do: it starts rekey.
export { type Happened, type HostFiles, type Rehearsal, rehearse, type Staging } from './rehearse.ts'
