// What is told of an event: names, and the text that everybody may read. Nothing else of a run is in it.
import { redactor } from '../../output/redaction.ts'
import { oneLine } from '../../output/text.ts'
import type { EventRow, FleetRow } from '../store/fleets.ts'

/** What somebody is told. */
export interface Message {
  /** The same however often it is sent: who has seen it already can leave it out. */
  readonly id: string
  readonly fleet: Pick<FleetRow, 'id' | 'name' | 'playbook'>
  readonly event: Omit<EventRow, 'id'>
}

/** Letters of a text: an error may be long. */
const mostText = 2_000

/** What is told of an event of a fleet. */
export function messageFor({ id, name, playbook }: Message['fleet'], { id: number, ...event }: EventRow): Message {
  const text = oneLine(redactor().text(event.text))
  return {
    id: `${id}-${number}`,
    fleet: { id, name, playbook },
    event: { ...event, text: text.length > mostText ? `${text.slice(0, mostText)}…` : text },
  }
}

/** It in a line, with the fleet's name. */
export const inOneLine = ({ fleet, event }: Message): string => oneLine(`Fleet ${fleet.name}: ${event.text}`)
