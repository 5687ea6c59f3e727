// Permission bits as playbooks write them: 0o640, '0640', 'u=rw,g=r,o='.
import type { Kind } from '../options.ts'

/** Permission bits: a number (`0o640`), the same as text (`'0640'`), or chmod's words (`'u=rwX,go=rX'`). */
export type Mode = number | string

const words = /^[ugoa]*([=+-][ugorwxXst]*)+(,[ugoa]*([=+-][ugorwxXst]*)+)*$/

/** For `checkedOptions`. 644 is not what anybody means: without 0o it is 0o1204. */
export const modeKind: Kind = {
  words: "permission bits: 0o640, '0640' or 'u=rw,g=r,o=' (a number needs its 0o)",
  fits: value =>
    typeof value === 'number'
      ? Number.isInteger(value) && value >= 0 && value <= 0o7777 && !looksDecimal(value)
      : typeof value === 'string' &&
        (/^[0-7]{1,5}$/.test(value) ? Number.parseInt(value, 8) <= 0o7777 : words.test(value)),
}

/** 644, 755 and their like, whose digits are those of usual bits, and whose bits are not. 400 is 0o620: who means that writes '0620'. */
const looksDecimal = (value: number) =>
  /^[4-7][0-7]{2}$/.test(String(value)) && ((value & 0o7000) !== 0 || [400, 440, 444, 500].includes(value))

/**
 * The bits that a mode comes to on something that has some already.
 * @param is what it has now, or would be made with; `folder` for X
 * @param umask what words without u, g, o or a leave alone
 */
export function modeBits(mode: Mode, is: { readonly bits: number; readonly folder: boolean }, umask: number): number {
  if (typeof mode === 'number') return mode
  if (/^[0-7]+$/.test(mode)) return Number.parseInt(mode, 8)
  let { bits } = is
  for (const clause of mode.split(',')) {
    const [, who = ''] = /^([ugoa]*)/.exec(clause)!
    const users = who === '' || who.includes('a') ? 'ugo' : who
    for (const [, operator = '', permissions = ''] of clause.matchAll(/([=+-])([ugorwxXst]*)/g)) {
      for (const user of users) {
        const given = bitsFor(user, permissions, { bits, folder: is.folder }) & (who === '' ? ~umask : ~0)
        if (operator === '=') bits = (bits & ~(maskOf[user]! | specialOf[user]!)) | given
        else bits = operator === '+' ? bits | given : bits & ~given
      }
    }
  }
  return bits
}

const shiftOf: Readonly<Record<string, number>> = { u: 6, g: 3, o: 0 }
const maskOf: Readonly<Record<string, number>> = { u: 0o700, g: 0o070, o: 0o007 }
const specialOf: Readonly<Record<string, number>> = { u: 0o4000, g: 0o2000, o: 0o1000 }

function bitsFor(user: string, permissions: string, { bits, folder }: { bits: number; folder: boolean }): number {
  const shift = shiftOf[user]!
  let given = 0
  for (const one of permissions) {
    if (one in maskOf) given |= ((bits >> shiftOf[one]!) & 7) << shift
    else if (one === 's') given |= user === 'u' ? 0o4000 : user === 'g' ? 0o2000 : 0
    else if (one === 't') given |= user === 'o' ? 0o1000 : 0
    else if (one === 'X') given |= folder || (bits & 0o111) !== 0 ? 1 << shift : 0
    else given |= { r: 4, w: 2, x: 1 }[one]! << shift
  }
  return given
}

/** As `ls` users read it: four digits. */
export const octal = (bits: number): string => bits.toString(8).padStart(4, '0')
