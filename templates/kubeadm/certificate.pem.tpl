{{- /* Certificate and key in one file, as the kubelet keeps its client certificate (kubelet-client-current.pem). */ -}}
{{ with secret (printf "%s/issue/%s" .Vault.Mount .Vault.Role)
  (printf "common_name=%s" .Certificate.CommonName)
  (printf "alt_names=%s" (.Certificate.DNSNames | join ","))
  (printf "ip_sans=%s" (.Certificate.IPAddresses | join ","))
  "exclude_cn_from_sans=true"
  (printf "ttl=%s" .Certificate.TTL) -}}
{{ .Data.certificate }}
{{ .Data.private_key }}
{{ end -}}
