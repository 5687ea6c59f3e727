// Cilium's IPsec keys, as kOps is given them: one line, `keys: 3+ rfc4106(gcm(aes)) HEX 128`. Nodes tell each other by its id which one they send
// with, so that the next key has the next id: the same one with another key, and packets are dropped until every node has it.
// https://docs.cilium.io/en/stable/security/network/encryption-ipsec/#key-rotation

interface IpsecKeys {
  readonly id: number
  readonly isPerTunnel: boolean
  /** Names and sizes. */
  readonly algorithms: string
  /** In hex. */
  readonly keys: readonly string[]
}

/** The highest id: after it comes 1. */
const lastId = 15

const line = /^\s*(?:keys:\s*)?(["']?)(\d{1,2})(\+?)[ \t]+(\S.*?)\1\s*$/
const isHex = (word: string) => /^(0x)?([0-9a-f]{2}){8,}$/i.test(word)

function ipsecKeysOf(text: string): IpsecKeys | undefined {
  const [, , id = '', perTunnel, rest = ''] = line.exec(text) ?? []
  const words = rest.split(/[ \t]+/)
  const keys = words.filter(isHex).map(word => word.replace(/^0x/i, '').toLowerCase())
  const algorithms = words.map(word => (isHex(word) ? '' : word)).join(' ')
  const isKnown = /^(rfc4106\(gcm\(aes\)\) {2}128|hmac\(\w+\) {2}cbc\(aes\) )$/.test(algorithms)
  if (!isKnown || Number(id) < 1 || Number(id) > lastId) return undefined
  return { id: Number(id), isPerTunnel: perTunnel === '+', algorithms, keys }
}

const after = ({ id }: IpsecKeys) => (id % lastId) + 1
const sizes = ({ algorithms, keys }: IpsecKeys) => [algorithms, ...keys.map(({ length }) => length)].join(' ')

/**
 * What speaks against keys that are to follow others.
 * @param before those that are there; undefined where they can't be read
 */
export function ipsecMisfits(before: string | undefined, next: string): string[] {
  const given = ipsecKeysOf(next)
  if (!given)
    return ['it is no line as kOps’ page of Cilium has it: keys: ID+ rfc4106(gcm(aes)) HEX 128, with an ID of 1 to 15']
  const own = before === undefined ? undefined : ipsecKeysOf(before)
  if (!own) return ['those of before can’t be read from the state store: nobody knows which id follows']
  return [
    ...(given.id === after(own) ? [] : [`its id is ${given.id}: after ${own.id} comes ${after(own)}`]),
    ...(sizes(given) === sizes(own)
      ? []
      : ['its algorithms, or the lengths of its keys, are other ones: agents go on with the key of before']),
    ...(given.isPerTunnel === own.isPerTunnel
      ? []
      : ['one of them has the + of keys for each tunnel, and the other has not']),
    ...(given.keys.some(key => own.keys.includes(key)) ? ['it has a key of before'] : []),
  ]
}

/** Keys that come back: under the id that follows that of those that are there now, unless they are back already. As they were where that can't be told. */
export function ipsecKeysBack(kept: string, now = ''): string {
  const [own, there] = [ipsecKeysOf(kept), ipsecKeysOf(now)]
  if (!own || !there) return kept
  if (own.keys.every((key, at) => key === there.keys[at])) return now
  return kept.replace(new RegExp(`\\b${own.id}(?=\\+?[ \\t])`), String(after(there)))
}
