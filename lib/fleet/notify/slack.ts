// A message to an incoming webhook of Slack's, or of whoever takes the same: `{"text": …}`.
import { inOneLine, type Message } from './message.ts'
import { post } from './post.ts'

/** What Slack would take for its own: links, names of people, channels. */
const signs: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;' }

/** Sends a message. Throws `RekeyError` where it was not taken. */
export const sendSlack = (url: string, message: Message): Promise<void> =>
  post(url, JSON.stringify({ text: inOneLine(message).replace(/[&<>]/g, sign => signs[sign]!) }))
