{{- /* The CA certificate: that of the mount's default issuer. */ -}}
{{ with secret (printf "%s/cert/ca" .Vault.Mount) -}}
{{ .Data.certificate }}
{{ end -}}
