// The variables that every stage takes.
import * as extra from '../as-found/extra.ts'
import * as authorities from '../authorities.ts'
import * as backup from '../backup.ts'
import * as conditions from '../conditions.ts'
import * as vault from '../given/vault.ts'
import * as observe from '../observe.ts'
import * as preflight from '../preflight.ts'
import * as report from '../report.ts'
import * as chosen from './chosen.ts'

export const variables = {
  ...chosen.variables, // keysets
  ...vault.variables, // vault_addr, vault_cacert, vault_token_file
  ...authorities.variables, // cluster_name, pki_authorities, pki_mount, ca_ttl, certificate_ttl, vault_manage_roles
  ...preflight.variables, // clock_tolerance
  ...conditions.variables, // accept
  ...backup.variables, // backup_directory
  ...extra.variables, // extra_certificates
  ...observe.variables, // api_server, canary_results
  ...report.variables, // look_around
}
