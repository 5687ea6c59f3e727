// Started by faults-network.test.ts in a network of its own, whose loopback loses packets: an sshd there. It prints how to reach it, and, once its
// stdin ends, how many packets were lost.
import { execFileSync } from 'node:child_process'
import { startSshd } from './sshd.ts'

const sshd = await startSshd()
console.log(JSON.stringify(sshd.settings))
process.stdin.resume().once('end', async () => {
  const counted = execFileSync('iptables', ['-nvxL', 'INPUT'], { encoding: 'utf8' })
  await sshd.stop()
  console.log(/^ *(\d+) .* DROP /m.exec(counted)?.[1])
})
