// What a server, a host or a program said, before it becomes part of a message: whoever reads it has a terminal, and a page of it.
import { stripVTControlCharacters } from 'node:util'

/** What moves a cursor, turns the direction of text, or can't be seen. */
const unseen = /[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff9-\ufffb]+/g

/**
 * Somebody else's words as one line: without control characters and escape sequences, cut after `most` characters.
 * Takes time that grows with what it keeps, however much was said.
 */
export function foreignWords(text: string, most = 300): string {
  // Escape sequences and blanks take room, too, but not all of it.
  const beginning = text.slice(0, 4 * most)
  const line = stripVTControlCharacters(beginning).replace(unseen, ' ').replace(/ {2,}/g, ' ').trim()
  return line.length > most || beginning.length < text.length ? `${line.slice(0, most - 1)}…` : line
}
