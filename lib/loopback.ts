// Whether an address leads to this machine alone.

/** Whether a name of a host, or an address as it stands in a URL or alone, is this machine's loopback. */
export const isLoopback = (host: string): boolean => /^(localhost|127(\.\d{1,3}){3}|::1|\[::1\])$/.test(host)
