// The file of a plugin with a PKCS#11 token: lines of NAME = VALUE, of which Primary_key and Secondary_key name keys by their labels.
import { RekeyError } from '../../errors.ts'

const line = (name: string) => new RegExp(`^([ \\t]*${name}[ \\t]*=[ \\t]*)(.*?)[ \\t]*(\\r?)$`, 'gm')

/**
 * What a file has for an attribute; undefined where it has no such line, or nothing behind its sign.
 * @throws RekeyError where it has several lines of that name: which one counts, each plugin has an own mind of
 */
export function attributeOf(text: string, where: string, name: string): string | undefined {
  const found = [...text.matchAll(line(name))]
  if (found.length > 1)
    throw new RekeyError(`${where} has ${found.length} lines of ${name}`, {
      code: 'encryption.plugin-file',
      hint: 'Leave one of them.',
    })
  return found[0]?.[2] || undefined
}

/**
 * Which key encrypts, and which one decrypts too; all else stays as it is. A line that is missing comes behind that of `Primary_key`.
 * @throws RekeyError where there is no line of `Primary_key`
 */
export function withKeys(text: string, where: string, primary: string, secondary: string): string {
  if (attributeOf(text, where, 'Primary_key') === undefined)
    throw new RekeyError(`${where} has no Primary_key`, {
      code: 'encryption.plugin-file',
      hint: 'Say by hsm_config which file names the keys of the plugin: Primary_key = LABEL.',
    })
  const first = text.replace(line('Primary_key'), (_, begin, __, end) => `${begin}${primary}${end}`)
  if (line('Secondary_key').test(first))
    return first.replace(line('Secondary_key'), (_, begin, __, end) => `${begin}${secondary}${end}`)
  return first.replace(
    line('Primary_key'),
    whole =>
      `${whole}\n${whole.replace(line('Primary_key'), (_, begin, __, end) => `${begin.replace('Primary', 'Secondary')}${secondary}${end}`)}`,
  )
}
