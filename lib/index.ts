// The door `rekey`: the model of a playbook, the remote `$`, and operations that know nothing of Kubernetes. What any playbook needs;
// further doors, by topic, are `rekey/credentials`, `rekey/encryption`, `rekey/kops`, `rekey/kubernetes`, `rekey/pki` and `rekey/rotation`.
export { quote, raw, Secret, secret } from './connection/shell.ts'
export { CancelledError, HostFailedError, RekeyError, UnknownOutcomeError, UnreachableError } from './errors.ts'
export { type Backup, backUpFiles, fetchFile, freeKilobytes } from './operations/backup.ts'
export { type Copied, type CopiedFile, differingFiles, wouldCopy } from './operations/copy.ts'
export type { BlockInFileOptions } from './operations/edits/block-in-file.ts'
export type { LineInFileOptions } from './operations/edits/line-in-file.ts'
export type { ReplaceInFileOptions } from './operations/edits/replace-in-file.ts'
export { type Archived, type ArchiveOptions, archive } from './operations/files/archive.ts'
export { type CopyOptions, copy } from './operations/files/copy.ts'
export { type Fetched, type FetchOptions, fetch } from './operations/files/fetch.ts'
export { type FileOptions, type FileResult, file } from './operations/files/file.ts'
export type { Mode } from './operations/files/mode.ts'
export type { TemplateOptions } from './operations/files/template.ts'
export { type Unarchived, type UnarchiveOptions, unarchive } from './operations/files/unarchive.ts'
export { type Asked, type Operation, undoOperations } from './operations/operation.ts'
export { changedAfterSwap, restoreFiles } from './operations/restore.ts'
export { type StagedFile, type Swap, stagedPath, stageFiles, swapFiles } from './operations/staging.ts'
export { type AuthorizedKeyOptions, authorizedKey } from './operations/system/authorized-key.ts'
export { type CommandOptions, command } from './operations/system/command.ts'
export { type Facts, facts } from './operations/system/facts.ts'
export { type PackageOptions, packages } from './operations/system/packages.ts'
export { type RebootOptions, reboot } from './operations/system/reboot.ts'
export { type ServiceOptions, service, type UnitState } from './operations/system/service.ts'
export { type UserOptions, user } from './operations/system/user.ts'
export { type WaitForPortOptions, waitForPort } from './operations/system/wait-for-port.ts'
export { waitFor } from './operations/wait.ts'
export { duration, formatDuration } from './playbook/duration.ts'
export type { Host } from './playbook/host.ts'
export {
  type Block,
  block,
  type HostSession,
  type Play,
  play,
  playbook,
  type ReportCurve,
  type ReportMetric,
  type ReportSection,
  type RunContext,
  type Step,
  type StepContext,
  type StepDefinition,
  step,
  unchanged,
  wouldWrite,
} from './playbook/model.ts'
export { secretText } from './playbook/secret-text.ts'
export { createRenderer } from './template/render.ts'
export { blockInFile, lineInFile, replaceInFile, template } from './text-operations.ts'
