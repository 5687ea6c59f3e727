// What can be wrong with an answer of an API server.
import { HostFailedError } from '../../errors.ts'

/** An answer that is not 2xx. */
export class ApiError extends HostFailedError {
  readonly status: number
  /** Milliseconds after which the API server wants to be asked again, where it has too much to do now. */
  readonly retryAfter?: number
  constructor(message: string, status: number, retryAfter?: number) {
    super(message, { code: `api.${status}` })
    this.status = status
    this.retryAfter = retryAfter
  }
}

/** An answer that is longer than anybody should keep. Of a list, less is asked for then. */
export class AnswerTooLongError extends HostFailedError {
  constructor(what: string, most: number) {
    super(`${what}: the answer is longer than ${most} bytes`, { code: 'api.too-long' })
  }
}
