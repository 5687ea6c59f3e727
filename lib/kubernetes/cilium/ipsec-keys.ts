// Cilium's IPsec keys: one line, `3+ rfc4106(gcm(aes)) HEX 128` or `3+ hmac(sha256) HEX cbc(aes) HEX`. Nodes tell each other by its id which key they send
// with, so that the next key has the next id: the same one with another key, and packets are dropped until every node has it. What is taken here, Cilium
// takes, too (test/kubernetes/cilium has its answers); it takes more, such as an id that is skipped, or a key of two bytes.
// https://docs.cilium.io/en/stable/security/network/encryption-ipsec/#key-rotation

/** A line of keys. */
export interface IpsecKeys {
  readonly id: number
  /** `+` behind the id: a key of its own for each tunnel is made of it. */
  readonly isPerTunnel: boolean
  /** Names, keys and sizes, as they stand there. */
  readonly words: readonly string[]
  /** In lower case, without `0x`. */
  readonly keys: readonly string[]
}

/** The highest id: after it comes 1. */
const lastId = 15
/** Shorter is no key of any algorithm that anybody uses. */
const shortestKey = 16

/** The words that are keys, in both forms. */
const keyPlaces: Readonly<Record<number, readonly number[]>> = { 3: [1], 4: [1, 3] }

/**
 * Reads a line of keys.
 * @returns what is wrong with it, where it is none that can be rotated: never with a key in it
 */
export function readIpsecKeys(text: string): IpsecKeys | string {
  const [line = '', ...more] = text.replace(/\r?\n$/, '').split('\n')
  if (more.length > 0) return 'it has more than one line'
  const [id = '', ...words] = line.trim().split(/[ \t]+/)
  const places = keyPlaces[words.length]
  const [, digits = '', perTunnel = ''] = /^([1-9]\d?)(\+?)$/.exec(id) ?? []
  if (!places)
    return 'it is no line of an id, an algorithm, a key and a size, or of an id and two algorithms, each with its key'
  if (digits === '' || Number(digits) > lastId) return `its id is none of 1 to ${lastId}`
  const keys = places.map(place => words[place]!.replace(/^0x/, '').toLowerCase())
  if (!keys.every(key => /^([0-9a-f]{2})+$/.test(key) && key.length >= 2 * shortestKey))
    return `a key is no hexadecimal number of at least ${shortestKey} bytes`
  if (words.length === 3 && !/^rfc\w+\(/.test(words[0]!)) return 'its algorithm is none with a size'
  if (words.length === 3 && !/^(96|128|256)$/.test(words[2]!)) return 'its size is none of 96, 128 and 256'
  return { id: Number(digits), isPerTunnel: perTunnel === '+', words, keys }
}

/** The id that comes after one. */
export const idAfter = (id: number): number => (id % lastId) + 1

/** A line with another id and, where some are given, other keys. Algorithms and sizes stay. */
export function writeIpsecKeys(
  { words, isPerTunnel, keys }: IpsecKeys,
  id: number,
  next: readonly string[] = keys,
): string {
  const places = keyPlaces[words.length]!
  const put = words.map((word, place) => (places.includes(place) ? next[places.indexOf(place)]! : word))
  return [`${id}${isPerTunnel ? '+' : ''}`, ...put].join(' ')
}

const sizes = ({ words, keys }: IpsecKeys) =>
  [...words.filter((_, place) => !keyPlaces[words.length]!.includes(place)), ...keys.map(({ length }) => length)].join(
    ' ',
  )

/** What speaks against keys that are to follow others, a sentence each. */
export function keysMisfit(own: IpsecKeys, given: IpsecKeys): string[] {
  return [
    ...(given.id === idAfter(own.id) ? [] : [`its id is ${given.id}: after ${own.id} comes ${idAfter(own.id)}`]),
    ...(sizes(given) === sizes(own)
      ? []
      : ['its algorithms, or the lengths of its keys, are other ones: agents go on with the key of before']),
    ...(given.isPerTunnel === own.isPerTunnel
      ? []
      : ['one of them has the + of keys for each tunnel, and the other has not']),
    ...(given.keys.some(key => own.keys.includes(key)) ? ['it has a key of before'] : []),
  ]
}
