// Names with `*` in them. Not by a regular expression: with several stars one takes time that grows with a power of the name's length.

/**
 * Whether a text is what a pattern says, in which `*` stands for any characters. Takes time that grows with the product of both.
 * @param single what stands for one character, where anything does
 */
export function matchesWildcards(pattern: string, text: string, single?: string): boolean {
  let [here, at, star, from] = [0, 0, -1, 0]
  while (at < text.length) {
    if (pattern[here] === '*') {
      star = here++
      from = at
    } else if (here < pattern.length && (pattern[here] === text[at] || pattern[here] === single)) {
      here++
      at++
    } else if (star !== -1) {
      here = star + 1
      at = ++from
    } else return false
  }
  while (pattern[here] === '*') here++
  return here === pattern.length
}
