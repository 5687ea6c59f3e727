// Cilium's key lines are read as strictly as Cilium reads them, and more: whatever is taken here, its agent takes under the same id.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { idAfter, keysMisfit, readIpsecKeys, writeIpsecKeys } from '../../../lib/kubernetes/cilium/ipsec-keys.ts'

interface Case {
  readonly text: string
  /** What Cilium's agent says of it, by scripts/cilium. */
  readonly cilium: { readonly id?: number; readonly refused?: string }
  /** Cilium takes it, and here it is refused: why. */
  readonly strict?: string
}

const cases = JSON.parse(readFileSync(join(import.meta.dirname, 'fixtures/key-files.json'), 'utf8')) as Case[]

/** Keys by how long they are. */
const short = (text: string) => text.replace(/([0-9a-f]{2})\1{4,}.?/gi, (one, pair) => `${pair}*${one.length}`)

for (const { text, cilium, strict } of cases)
  test(`${JSON.stringify(short(text))}: ${strict ?? cilium.refused ?? `id ${cilium.id}`}`, t => {
    const [first = '', second] = text.replace(/\n$/, '').split('\n')
    const own = readIpsecKeys(first)
    const given = second === undefined ? own : readIpsecKeys(second)
    const misfits =
      typeof own === 'string' || typeof given === 'string' || second === undefined ? [] : keysMisfit(own, given)
    const taken = typeof own !== 'string' && typeof given !== 'string' && misfits.length === 0
    t.is(taken, cilium.refused === undefined && strict === undefined)
    if (taken) t.is<number | undefined, number | undefined>(given.id, cilium.id)
  })

test('what is refused is told without a key in it', t => {
  const key = 'ab'.repeat(20)
  for (const text of [
    `3+ gcm(aes) ${key} 128`,
    `3+ rfc4106(gcm(aes)) ${key} 64`,
    `x ${key}`,
    `3 rfc4106(gcm(aes)) ${key}0 128`,
  ]) {
    const told = readIpsecKeys(text)
    t.is(typeof told, 'string')
    t.false(String(told).includes('abab'))
  }
})

test('a line is written anew with another id and other keys, and all else stays', t => {
  const read = (text: string) => {
    const found = readIpsecKeys(text)
    if (typeof found === 'string') throw new Error(found)
    return found
  }
  const [one, two] = ['0a'.repeat(20), '0b'.repeat(20)]
  t.is(writeIpsecKeys(read(`15+ rfc4106(gcm(aes)) 0x${one} 128\n`), 1, [two]), `1+ rfc4106(gcm(aes)) ${two} 128`)
  const both = `3 hmac(sha256) ${one} cbc(aes) ${two}`
  t.is(writeIpsecKeys(read(both), 4, [two, one]), `4 hmac(sha256) ${two} cbc(aes) ${one}`)
  t.is(writeIpsecKeys(read(both), 5), both.replace('3', '5'))
  t.deepEqual([1, 14, 15].map(idAfter), [2, 15, 1])
})
