// What is said of a cluster that is asked whether it is well: a finding for each thing that was looked at.

/** What was looked at. Plain data. */
export interface Finding {
  /** What it is about: `API server`, `etcd`, `DNS`. */
  readonly what: string
  /** Where: a host, a node, a Service. */
  readonly where: string
  /**
   * `well`; `not well`, which is the cluster's own trouble; `beside`, what is out of the ordinary and not the cluster's: pods of users that
   * failed, a cordoned node.
   */
  readonly state: 'well' | 'not well' | 'beside'
  readonly detail: string
}

/**
 * Looks at something; what it throws is what is not well.
 * @param look gives what is to be said where it is well
 * @param signal ends it: what is thrown then is thrown on
 */
export async function finding(
  what: string,
  where: string,
  look: () => Promise<string>,
  signal?: AbortSignal,
): Promise<Finding> {
  try {
    return { what, where, state: 'well', detail: await look() }
  } catch (error) {
    signal?.throwIfAborted()
    return { what, where, state: 'not well', detail: firstLine((error as Error).message) }
  }
}

/** The first line of a message that says something: etcdctl begins with lines of its log. */
function firstLine(message: string): string {
  const lines = message.split('\n')
  return lines.find(line => !line.includes('{"level":')) ?? lines[0] ?? ''
}

/** Those that are not well first, then what is beside them. */
export function worstFirst(findings: readonly Finding[]): Finding[] {
  const order = ['not well', 'beside', 'well']
  return findings.toSorted((one, other) => order.indexOf(one.state) - order.indexOf(other.state))
}
