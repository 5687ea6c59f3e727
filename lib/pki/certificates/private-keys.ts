// The private keys in a text, as PEM or that in base64, as kubeconfigs and Secrets carry it.

const begin = '-----BEGIN '
const end = '-----END '
const kind = 'PRIVATE KEY-----'
/** What PEM begins with, in base64. */
const encodedBegin = 'LS0t'

/** Every private key in a text, each as PEM. Takes time that grows with the text, whatever it is. */
export function privateKeysIn(text: string): string[] {
  const found = blocksIn(text)
  let from = 0
  for (let at = text.indexOf(encodedBegin); at !== -1; at = text.indexOf(encodedBegin, from)) {
    from = endOfBase64(text, at)
    found.push(...blocksIn(Buffer.from(text.slice(at, from), 'base64').toString('latin1')))
  }
  return found
}

function blocksIn(text: string): string[] {
  const found: string[] = []
  for (let at = text.indexOf(begin); at !== -1; ) {
    const next = text.indexOf(begin, at + begin.length)
    const block = text.slice(at, next === -1 ? undefined : next)
    const to = block.indexOf(kind, block.indexOf(end))
    if (block.slice(0, block.indexOf('\n')).endsWith(kind) && block.includes(end) && to !== -1)
      found.push(block.slice(0, to + kind.length))
    at = next
  }
  return found
}

function endOfBase64(text: string, from: number): number {
  let to = from
  while (to < text.length && isBase64(text.charCodeAt(to))) to++
  return to
}

function isBase64(code: number): boolean {
  return (
    (code >= 97 && code <= 122) ||
    (code >= 65 && code <= 90) ||
    (code >= 47 && code <= 57) ||
    code === 43 ||
    code === 61
  )
}
