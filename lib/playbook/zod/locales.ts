// In place of zod's locales, a file for each of fifty languages, all of which it would load: bin/rekey puts this here.
export { default as en } from 'zod/v4/locales/en.js'
