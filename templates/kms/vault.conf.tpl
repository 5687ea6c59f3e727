# The lab's plugin on a key of Vault's transit engine. The token is in a file, which whoever renews it writes anew.
Vault_address = {{ .kms_vault_address }}
{{- with .kms_vault_ca }}
Vault_ca = {{ . }}
{{- end }}
Vault_token_file = {{ .kms_vault_token_file }}
Transit_mount = {{ .kms_transit_mount }}
Transit_key = {{ .kms_transit_key }}
