// The state store as a place for objects: what it takes to hold a lock there, and to leave a line behind.

/** An object as it was read, with what tells it from a later one. */
export interface Stored {
  readonly text: string
  readonly tag: string
}

/** Objects by their paths below the store. All reject with `HostFailedError` where the store does not answer, or refuses. */
export interface StateStore {
  get(path: string): Promise<Stored | undefined>
  /** The paths of all objects below a folder, sorted. */
  list(folder: string): Promise<string[]>
  /** Writes an object that is not there yet: of two who come at once one does. Returns its tag, or undefined where it is there. */
  create(path: string, text: string): Promise<string | undefined>
  /** Writes over the object that has this tag. Returns the new tag, or undefined where it is another one by now. */
  replace(path: string, text: string, tag: string): Promise<string | undefined>
  /** Removes the object that has this tag; whether it did. */
  remove(path: string, tag: string): Promise<boolean>
}
