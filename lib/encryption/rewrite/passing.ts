// What of an API server's refusals passes by itself, and what never will: a value that it has no key for.
import { HostFailedError } from '../../errors.ts'
import { ApiError } from '../../kubernetes/api/api.ts'
import { patiently } from '../../kubernetes/api/patience.ts'

/**
 * Asks again where the API server has too much to do, is away or does not answer in time, or somebody wrote at the same moment. Only for what may be done twice.
 * @param pause milliseconds before it is asked again; each next pause is twice as long, and as long as the server says where it does
 * @throws what was thrown last, and at once whatever does not pass
 */
export const untilItPasses = <T>(ask: () => Promise<T>, signal?: AbortSignal, pause = 250): Promise<T> =>
  patiently(ask, { passes: isPassing, tries: 8, most: 15_000, pause, signal })

function isPassing(error: unknown): boolean {
  if (error instanceof ApiError)
    return error.status === 409 || error.status === 429 || (error.status >= 500 && !isUnreadable(error))
  return error instanceof HostFailedError && error.code === 'api.no-answer'
}

/**
 * What API servers answer where no provider decrypts what is stored, by their own words: those of storage, of each provider, and of decoding where
 * aescbc decrypts to nonsense. A webhook's words (`could not transform spec`) are its own, and it may be well again soon.
 */
export const isUnreadable = ({ status, message }: ApiError): boolean => {
  const said = message.slice(message.indexOf(': 500 '))
  return status === 500 && !/webhook/i.test(said) && ownWords.test(said)
}

const ownWords =
  /unable to transform key|is not transformable|no matching prefix found|transformer tried to read encrypted data|invalid padding on input|invalid PKCS7|message authentication failed|the stored data |output array was not large enough|failed to decrypt|unable to decode|couldn't get version\/kind|proto: /
