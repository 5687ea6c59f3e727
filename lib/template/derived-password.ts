// Sprig's derivePassword: a password out of a master password, by Master Password's algorithm, always the same for the same words.
import { createHmac, scryptSync } from 'node:crypto'
import { type GoFunction, type GoValue, kindOf } from './values.ts'

const seedName = 'com.lyndir.masterpassword'

/** What each kind of password may look like: a letter for each character of it. */
const shapes: Readonly<Record<string, string>> = {
  maximum: 'anoxxxxxxxxxxxxxxxxx axxxxxxxxxxxxxxxxxno',
  long:
    'CvcvnoCvcvCvcv CvcvCvcvnoCvcv CvcvCvcvCvcvno CvccnoCvcvCvcv CvccCvcvnoCvcv CvccCvcvCvcvno CvcvnoCvccCvcv ' +
    'CvcvCvccnoCvcv CvcvCvccCvcvno CvcvnoCvcvCvcc CvcvCvcvnoCvcc CvcvCvcvCvccno CvccnoCvccCvcv CvccCvccnoCvcv ' +
    'CvccCvccCvcvno CvcvnoCvccCvcc CvcvCvccnoCvcc CvcvCvccCvccno CvccnoCvcvCvcc CvccCvcvnoCvcc CvccCvcvCvccno',
  medium: 'CvcnoCvc CvcCvcno',
  short: 'Cvcn',
  basic: 'aaanaaan aannaaan aaannaaa',
  pin: 'nnnn',
}

const [upperVowels, lowerVowels] = ['AEIOU', 'aeiou']
const [upperOthers, lowerOthers] = ['BCDFGHJKLMNPQRSTVWXYZ', 'bcdfghjklmnpqrstvwxyz']
const letters = upperVowels + lowerVowels + upperOthers + lowerOthers
const characters: Readonly<Record<string, string>> = {
  ...{ V: upperVowels, C: upperOthers, v: lowerVowels, c: lowerOthers, A: upperVowels + upperOthers, a: letters },
  ...{ n: '0123456789', o: "@&%?,=[]_:-+*$#!'^~;()/.", x: `${letters}0123456789!@#$%^&*()` },
}

const withLength = (text: string) => Buffer.concat([uint32(text.length), Buffer.from(text, 'latin1')])

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** `derivePassword COUNTER KIND PASSWORD USER SITE`. Throws for a kind that is not known, where Sprig would write that it is not. */
export const derivePassword: GoFunction = (counter, ...words) => {
  if (words.length !== 4) throw new Error(`needs a counter and four strings, and got ${words.length + 1} arguments`)
  if (typeof counter !== 'bigint' || counter < 0n || counter > 0xffff_ffffn) {
    throw new Error('the counter must be an integer from 0 to 4294967295')
  }
  const [kind, password, user, site] = words.map(stringOf) as [string, string, string, string]
  const possible = Object.hasOwn(shapes, kind) ? shapes[kind]!.split(' ') : undefined
  if (!possible) throw new Error(`knows the kinds ${Object.keys(shapes).join(', ')}`)
  const salt = Buffer.concat([Buffer.from(seedName), withLength(user)])
  const how = { N: 32_768, r: 8, p: 2, maxmem: 128 * 1024 * 1024 }
  const key = scryptSync(Buffer.from(password, 'latin1'), salt, 64, how)
  const question = Buffer.concat([Buffer.from(seedName), withLength(site), uint32(Number(counter))])
  const seed = createHmac('sha256', key).update(question).digest()
  const shape = possible[seed[0]! % possible.length]!
  return [...shape]
    .map((one, index) => {
      const choice = characters[one]!
      return choice[seed[index + 1]! % choice.length]
    })
    .join('')
}

function stringOf(value: GoValue | undefined): string {
  if (typeof value === 'string') return value
  throw new Error(`needs a string, and got ${value === undefined ? 'nothing' : kindOf(value)}`)
}
