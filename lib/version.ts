// Which rekey this is.
import { manifest } from './package.ts'

/** The version in package.json. */
export const rekeyVersion = (): string => manifest().version
