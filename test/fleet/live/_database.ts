// One PostgreSQL for all tests of a file, with the tables of fleets in it.
import type { TestFn } from 'ava'
import { type Database, openPostgres } from '../../../lib/fleet/store/database.ts'
import { makeTables } from '../../../lib/fleet/store/tables.ts'
import { postgresMissing, startPostgres, type TestPostgres } from './_postgres.ts'

export let server: TestPostgres
export let database: Database

const missing = postgresMissing()

/**
 * Has it there while the tests of a file run.
 * @param what is not tested where there is no PostgreSQL: that is said
 * @param connections as many as are open at once
 * @returns what declares a test; `alone` one that comes before all others
 */
export function useDatabase(test: TestFn, what: string, connections?: number) {
  if (missing) test.skip(`${what} not tested: ${missing}`, () => {})
  test.before(async () => {
    if (missing) return
    server = await startPostgres()
    database = await openPostgres(server.address, connections)
    await makeTables(database)
  })
  test.after.always(async () => {
    await database?.close()
    await server?.stop()
  })
  return missing ? { real: test.skip, alone: test.skip } : { real: test, alone: test.serial }
}
