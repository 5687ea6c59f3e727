// Every way to a host, what goes wrong on it and on the way, and runs that stop in the middle: real sshds, a few test files at a time.
export default {
  files: ['test/ssh/**/*.test.ts'],
  extensions: ['ts'],
  concurrency: 3,
  timeout: '3m',
}
