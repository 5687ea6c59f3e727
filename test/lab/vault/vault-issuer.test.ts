// The issuers' contract on a real Vault.
import anyTest, { type TestFn } from 'ava'
import type { Vault } from '../../../lib/pki/vault/contract.ts'
import { connectVault } from '../../../lib/pki/vault/vault.ts'
import { issuerContract } from '../../pki/issuer/_issuer-contract.ts'
import { labBinary, startVault, type VaultServer } from './_vault-server.ts'

const binary = labBinary('vault')
let server: VaultServer
let vault: Vault

anyTest.before(async () => {
  server = await startVault(binary)
  vault = await connectVault({ address: server.address, caFile: server.caFile, token: server.rootToken })
})
anyTest.after.always(async () => {
  vault?.close()
  await server?.stop()
})
issuerContract(anyTest.serial as TestFn, () => vault)
