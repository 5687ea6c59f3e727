// What a lab says about itself on disk: its size, its traits, its subnet, what it was made of, and whether it is finished.
import { mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { labFolder, labsFolder, privateFolder, writeWhole } from './folders.ts'
import type { Parts } from './machines/machine.ts'
import { type LabOptions, type Shape, shapeOf } from './shape.ts'

export interface LabRecord extends LabOptions {
  readonly subnet: string
  readonly parts: Parts
  /** `incomplete` until its disks are a whole cluster's; one that is found so was interrupted. */
  readonly stage: 'incomplete' | 'complete'
  /** The snapshot that its disks can be put back to. */
  readonly snapshot: string
}

const recordFile = (lab: string) => join(labFolder(lab), 'lab.json')

/** The record of a lab, or undefined when there is no such lab. */
export function readRecord(lab: string): LabRecord | undefined {
  try {
    return JSON.parse(readFileSync(recordFile(lab), 'utf8')) as LabRecord
  } catch {
    return undefined
  }
}

export function writeRecord(record: LabRecord): void {
  mkdirSync(labsFolder(), { recursive: true, mode: 0o700 })
  privateFolder(labFolder(record.name))
  const file = recordFile(record.name)
  writeWhole(`${file}.new`, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600 })
  renameSync(`${file}.new`, file)
}

export const shapeOfRecord = (record: LabRecord): Shape => shapeOf(record, record.subnet)

/** The names of all labs that have a record. */
export function labNames(): string[] {
  try {
    return readdirSync(labsFolder()).filter(name => readRecord(name))
  } catch {
    return []
  }
}
