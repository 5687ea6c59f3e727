// A state store in a bucket: by conditional requests, which S3 has for writes. Credentials and region are those that the AWS clients find; the
// variables that kOps has for other clouds' S3 (S3_ENDPOINT and its kin) go before them.
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3'
import { HostFailedError } from '../../errors.ts'
import type { StateStore } from './store.ts'

/** Milliseconds that a request may take. */
const patience = 20_000

/** Opens one. Nothing is loaded or asked before the first request. */
export function s3Store(bucket: string, prefix: string, environment: NodeJS.ProcessEnv = process.env): StateStore {
  const keyOf = (path: string) => [prefix, path].filter(Boolean).join('/')
  let opened: Promise<{ sdk: typeof import('@aws-sdk/client-s3'); client: S3Client }> | undefined
  const open = () =>
    (opened ??= import('@aws-sdk/client-s3').then(sdk => ({ sdk, client: new sdk.S3Client(settings(environment)) })))
  /** What came of a request; undefined where the object is not there, or not the one that was meant. */
  const ask = async <T>(
    what: string,
    request: (from: Awaited<ReturnType<typeof open>>, abort: AbortSignal) => Promise<T>,
  ) => {
    try {
      return await request(await open(), AbortSignal.timeout(patience))
    } catch (cause) {
      const { name, message, $metadata } = cause as Error & { $metadata?: { httpStatusCode?: number } }
      const status = $metadata?.httpStatusCode
      if (status === 404 && name !== 'NoSuchBucket') return undefined
      if (status === 412 || status === 409) return undefined
      const late = name === 'TimeoutError' || name === 'AbortError'
      throw new HostFailedError(
        `s3://${bucket}/${what} ${late ? `: waited ${patience / 1_000} s for an answer` : `: ${name}: ${message}`}`.replace(
          ' :',
          ':',
        ),
        {
          code: 'kops.state-store',
          hint: 'Reading, writing and deleting objects below rekey/ of the state store must be allowed. Where it is not: -e without_lock=true.',
          cause,
        },
      )
    }
  }
  return {
    get: path =>
      ask(keyOf(path), async ({ sdk, client }, abortSignal) => {
        const found = await client.send(new sdk.GetObjectCommand({ Bucket: bucket, Key: keyOf(path) }), { abortSignal })
        return { text: (await found.Body?.transformToString()) ?? '', tag: found.ETag ?? '' }
      }),
    list: async folder => {
      const found: string[] = []
      const Prefix = `${keyOf(folder)}/`
      let ContinuationToken: string | undefined
      do {
        const page = await ask(Prefix, ({ sdk, client }, abortSignal) =>
          client.send(new sdk.ListObjectsV2Command({ Bucket: bucket, Prefix, ContinuationToken }), { abortSignal }),
        )
        if (!page)
          throw new HostFailedError(`s3://${bucket}/${Prefix} was not listed to its end`, { code: 'kops.state-store' })
        for (const { Key } of page.Contents ?? [])
          if (Key) found.push(prefix === '' ? Key : Key.slice(prefix.length + 1))
        ContinuationToken = page.NextContinuationToken
      } while (ContinuationToken)
      return found.sort()
    },
    create: (path, text) =>
      ask(keyOf(path), async ({ sdk, client }, abortSignal) => {
        const put = { Bucket: bucket, Key: keyOf(path), Body: text, IfNoneMatch: '*' }
        return (await client.send(new sdk.PutObjectCommand(put), { abortSignal })).ETag
      }),
    replace: (path, text, tag) =>
      ask(keyOf(path), async ({ sdk, client }, abortSignal) => {
        const put = { Bucket: bucket, Key: keyOf(path), Body: text, IfMatch: tag }
        return (await client.send(new sdk.PutObjectCommand(put), { abortSignal })).ETag
      }),
    remove: async (path, tag) => {
      const removed = await ask(keyOf(path), async ({ sdk, client }, abortSignal) => {
        const found = await client.send(new sdk.HeadObjectCommand({ Bucket: bucket, Key: keyOf(path) }), {
          abortSignal,
        })
        // Deleting on a condition is not to be had in every region and store.
        if (found.ETag !== tag) return undefined
        return client.send(new sdk.DeleteObjectCommand({ Bucket: bucket, Key: keyOf(path) }), { abortSignal })
      })
      return removed !== undefined
    },
  }
}

/** As kOps reads its own variables for a store that is S3 by protocol alone. */
function settings(environment: NodeJS.ProcessEnv): S3ClientConfig {
  const endpoint = environment['S3_ENDPOINT']
  const region =
    environment['S3_REGION'] ?? environment['AWS_REGION'] ?? environment['AWS_DEFAULT_REGION'] ?? 'us-east-1'
  const [id, secret] = [environment['S3_ACCESS_KEY_ID'], environment['S3_SECRET_ACCESS_KEY']]
  return {
    region,
    followRegionRedirects: true,
    maxAttempts: 3,
    ...(endpoint ? { endpoint, forcePathStyle: true } : {}),
    ...(endpoint && id && secret ? { credentials: { accessKeyId: id, secretAccessKey: secret } } : {}),
  }
}
