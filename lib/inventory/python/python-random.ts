// Python's `random.Random(seed)`: the same numbers for the same seed, as roles spread their work over hosts by it.
import { createHash } from 'node:crypto'

/** A source of numbers. */
export interface PythonRandom {
  /** A whole number below another one, which is at least 1. */
  below(limit: bigint): bigint
}

const size = 624

/** Python's generator, a Mersenne twister. A text is taken as Python takes one, so is a whole number. */
export function pythonRandom(seed: string | bigint): PythonRandom {
  const state = seeded(keyOf(seed))
  let at = size
  const next = (): number => {
    if (at === size) {
      twist(state)
      at = 0
    }
    let word = state[at++]!
    word ^= word >>> 11
    word ^= (word << 7) & 0x9d2c5680
    word ^= (word << 15) & 0xefc60000
    return (word ^ (word >>> 18)) >>> 0
  }
  /** So many random bits, the words with the lowest first. */
  const bits = (count: number): bigint => {
    let value = 0n
    for (let taken = 0; taken < count; taken += 32) {
      const left = count - taken
      const word = left < 32 ? next() >>> (32 - left) : next()
      value |= BigInt(word) << BigInt(taken)
    }
    return value
  }
  return {
    below(limit) {
      const count = limit.toString(2).length
      let value = bits(count)
      while (value >= limit) value = bits(count)
      return value
    },
  }
}

/** A seed as words of 32 bits, the lowest first. */
function keyOf(seed: string | bigint): number[] {
  let number = typeof seed === 'bigint' ? seed : 0n
  if (typeof seed === 'string') {
    const bytes = Buffer.from(seed)
    const all = Buffer.concat([bytes, createHash('sha512').update(bytes).digest()])
    number = BigInt(`0x${all.toString('hex')}`)
  }
  if (number < 0n) number = -number
  const hex = number.toString(16)
  const words: number[] = []
  for (let end = hex.length; end > 0; end -= 8) words.push(Number.parseInt(hex.slice(Math.max(0, end - 8), end), 16))
  return words
}

function seeded(key: readonly number[]): Uint32Array {
  const state = new Uint32Array(size)
  state[0] = 19650218
  for (let index = 1; index < size; index++)
    state[index] = Math.imul(1812433253, state[index - 1]! ^ (state[index - 1]! >>> 30)) + index
  let [one, two] = [1, 0]
  const forward = (): void => {
    if (++one < size) return
    state[0] = state[size - 1]!
    one = 1
  }
  const before = (factor: number): number => Math.imul(state[one - 1]! ^ (state[one - 1]! >>> 30), factor)
  for (let count = Math.max(size, key.length); count > 0; count--) {
    state[one] = (state[one]! ^ before(1664525)) + key[two]! + two
    forward()
    two = (two + 1) % key.length
  }
  for (let count = size - 1; count > 0; count--) {
    state[one] = (state[one]! ^ before(1566083941)) - one
    forward()
  }
  state[0] = 0x80000000
  return state
}

function twist(state: Uint32Array): void {
  for (let index = 0; index < size; index++) {
    const word = (state[index]! & 0x80000000) | (state[(index + 1) % size]! & 0x7fffffff)
    state[index] = state[(index + 397) % size]! ^ (word >>> 1) ^ (word & 1 ? 0x9908b0df : 0)
  }
}
