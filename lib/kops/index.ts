// The door `rekey/kops`: clusters of kOps, rotated by its own command line, with the gates that it lacks.
export { type Context, type Rotation, type RotationVariables, rotationVariables, variables } from './context.ts'
export { exportBefore, handOutAdmin, handOutAfter, handOutBoth, holds, unchangedSince, valid } from './gates.ts'
export { noteKeysets } from './plan.ts'
export { mayRotate, nameScalers, nothingPending, ownVersion } from './preflight.ts'
export type { Recreation } from './recreate/index.ts'
export * as recreate from './recreate/index.ts'
export { report } from './report.ts'
export * as secretAtRest from './secret/at-rest.ts'
export { type SecretContext, secretVariables } from './secret/given.ts'
export {
  type Compare,
  give,
  keepBefore,
  lookAtFile,
  lookAtSpecification,
  rollSecret,
  secretBack,
  secretReport,
  updateSecret,
} from './secret/secrets.ts'
export { openServices } from './services.ts'
export { notePromoted, soak } from './soak.ts'
export { roll, update } from './update.ts'
export { create, distrust, each, promote } from './verbs.ts'
export { wayBack } from './way-back.ts'
