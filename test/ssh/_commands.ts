// What commands of tests do on their hosts.

/** A command that goes on until so many have begun that are given the same file and a number each; for a minute at most. */
export const meeting = (file: string, number: number, count: number): string =>
  `echo >${file}-${number}; i=0; while [ "$(ls ${file}-* | wc -l)" -lt ${count} ]; do [ $((i += 1)) -lt 1200 ] || break; sleep 0.05; done`
