// Variables that are lists, as people give them on a command line.

/** Names with commas between them as a list; anything else as it is, for zod's `preprocess`. */
export const listed = (value: unknown): unknown =>
  typeof value === 'string' ? value.split(',').map(name => name.trim()) : value
