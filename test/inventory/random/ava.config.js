// Random inventories through rekey and ansible-inventory: `npm run test:ansible`. Not among `npm test`, which needs no Python.
export default {
  files: ['test/inventory/random/random.test.ts'],
  extensions: ['ts'],
  timeout: '40m',
  verbose: true,
}
