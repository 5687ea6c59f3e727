// A certificate for a client, signed with the key of a CA that is at hand: to see who lets in what somebody with that key could make.

import { x509 } from '../certificates/x509.ts'
import { generateKeys, leafExtensions, makeRequest, privateKeyPem, signCertificate } from './signing.ts'

/** What is to be signed, and with what. */
export interface ClientRequest {
  /** The CA and its key, PEM. */
  readonly authority: string
  readonly key: string
  readonly commonName: string
  readonly organizations?: readonly string[]
}

/** Minutes that it holds, and that it is dated back. */
const minutes = { holds: 15, back: 2 }

/** Makes a key, and a client's certificate for it that holds for a quarter of an hour. The key of the CA must be readable without a passphrase. */
export async function signClientCertificate({
  authority,
  key,
  commonName,
  organizations = [],
}: ClientRequest): Promise<{ certificate: string; key: string }> {
  const { publicKey, privateKey } = await generateKeys('ec')
  const { Name } = x509()
  const subject = new Name([...organizations.map(name => ({ O: [name] })), { CN: [commonName] }])
  const now = Date.now()
  const role = { server_flag: false, key_usage: ['DigitalSignature'] }
  const { certificate } = await signCertificate({
    ...{ subject, publicKey, signingKey: key, issuer: authority },
    notBefore: new Date(now - minutes.back * 60_000),
    notAfter: new Date(now + minutes.holds * 60_000),
    extensions: leafExtensions({ commonName, subject, names: [], addresses: [], uris: [] }, role),
  })
  return { certificate, key: privateKeyPem(privateKey) }
}

/** Makes a key, and a request for a client's certificate with it. */
export async function requestClientCertificate(commonName: string): Promise<{ request: string; key: string }> {
  const { privateKey } = await generateKeys('ec')
  return { request: await makeRequest(commonName, privateKey), key: privateKeyPem(privateKey) }
}
