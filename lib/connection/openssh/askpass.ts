// What the system's ssh starts to ask for a password or passphrase (SSH_ASKPASS): it passes the question on to rekey, over a
// socket that only its user may open, and prints the answer. So no secret is in an argument, in the environment or in a file.
import { connect } from 'node:net'

const [, , path = '', question = ''] = process.argv
const socket = connect(path)
let answer = ''
socket.on('data', chunk => {
  answer += chunk
})
socket.on('error', () => process.exit(1))
socket.on('end', () => {
  if (answer === '') process.exit(1)
  process.stdout.write(answer)
})
// A question that wants no answer, such as to touch a security token, is ended by ssh.
socket.write(`${JSON.stringify({ question, kind: process.env['SSH_ASKPASS_PROMPT'] ?? '' })}\n`)
