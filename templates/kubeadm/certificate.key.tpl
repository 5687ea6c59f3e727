{{- /* The private key of certificate.crt.tpl: the same parameters, so the same issue. */ -}}
{{ with secret (printf "%s/issue/%s" .Vault.Mount .Vault.Role)
  (printf "common_name=%s" .Certificate.CommonName)
  (printf "alt_names=%s" (.Certificate.DNSNames | join ","))
  (printf "ip_sans=%s" (.Certificate.IPAddresses | join ","))
  "exclude_cn_from_sans=true"
  (printf "ttl=%s" .Certificate.TTL) -}}
{{ .Data.private_key }}
{{ end -}}
