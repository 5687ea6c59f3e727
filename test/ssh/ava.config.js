// Every way to a host, and what goes wrong on it and on the way: real sshds, a few test files at a time.
export default {
  files: ['test/ssh/**/*.test.ts'],
  extensions: ['ts'],
  concurrency: 3,
  timeout: '3m',
}
