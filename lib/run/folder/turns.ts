// Work that many ask for at once, and that needs to be done once for all of them: one turn after the other, and never two at a time.

/**
 * Has work done in turns: calls that come together share one, and what came after a turn began needs the next one.
 * @param isCovered whether the turn under way does what a call asks for all the same
 */
export function inTurns(work: () => Promise<void>, isCovered: () => boolean = () => false): () => Promise<void> {
  let under: Promise<void> | undefined
  let next: Promise<void> | undefined
  const begin = () => {
    under = work().finally(() => {
      under = undefined
    })
    return under
  }
  return () => {
    if (next) return next
    if (!under) return begin()
    if (isCovered()) return under
    next = under
      .catch(() => {})
      .then(() => {
        next = undefined
        return begin()
      })
    return next
  }
}
