// Node's own import(), for what is found only while rekey runs. In a package it is handed in: a file that V8 is given to compile can't import (lib/packed/bundle.ts).

/** @param url of a module, or the name of a library */
export const importModule = (url: string): Promise<Record<string, unknown>> =>
  import(url) as Promise<Record<string, unknown>>
