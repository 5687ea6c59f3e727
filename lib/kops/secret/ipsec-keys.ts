// Cilium's IPsec keys, as kOps is given them: `keys: 3+ rfc4106(gcm(aes)) HEX 128`, in quotes or not.
import { type IpsecKeys, idAfter, keysMisfit, readIpsecKeys } from '../../kubernetes/cilium/ipsec-keys.ts'

const line = /^\s*(?:keys:\s*)?(["']?)(\d{1,2}\+?[ \t]+\S.*?)\1\s*$/

/** What kOps' page of Cilium has, and no other algorithms. */
const known = /^(rfc4106\(gcm\(aes\)\) \S+ 128|hmac\(\w+\) \S+ cbc\(aes\) \S+)$/

function ipsecKeysOf(text: string): IpsecKeys | undefined {
  const [, , inner = ''] = line.exec(text) ?? []
  const found = readIpsecKeys(inner.replace(/[ \t]+/g, ' '))
  return typeof found === 'string' || !known.test(found.words.join(' ')) ? undefined : found
}

/**
 * What speaks against keys that are to follow others.
 * @param before those that are there; undefined where they can't be read
 */
export function ipsecMisfits(before: string | undefined, next: string): string[] {
  const given = ipsecKeysOf(next)
  if (!given)
    return ['it is no line as kOps’ page of Cilium has it: keys: ID+ rfc4106(gcm(aes)) HEX 128, with an ID of 1 to 15']
  const own = before === undefined ? undefined : ipsecKeysOf(before)
  return own
    ? keysMisfit(own, given)
    : ['those of before can’t be read from the state store: nobody knows which id follows']
}

/** Keys that come back: under the id that follows that of those that are there now, unless they are back already. As they were where that can't be told. */
export function ipsecKeysBack(kept: string, now = ''): string {
  const [own, there] = [ipsecKeysOf(kept), ipsecKeysOf(now)]
  if (!own || !there) return kept
  if (own.keys.every((key, at) => key === there.keys[at])) return now
  return kept.replace(new RegExp(`\\b${own.id}(?=\\+?[ \\t])`), String(idAfter(there.id)))
}
